"""Whose a TCP connection is: by its Hello's token, which is asked of again whenever what is known of it is too old.

Hello → known? → greeted: the exclusive name is taken, and the vigil begins
          └ the records are asked first
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import structlog

from proto import atelier_pb2 as pb
from server.door_parts import DoorParts
from server.errors import Code, Refusal
from server.exclusive import Session
from server.greeting import check_hello
from server.principal import Principal
from server.wire.connection import Received

log = structlog.get_logger("atelier.tcp")

MAX_HELLOS = 3  # a person may mistype a token; a guesser has to connect anew, and is counted


class Login:
    """One connection's. `principal` is whose it is now; nobody's until a Hello was good."""

    def __init__(self, parts: DoorParts) -> None:
        self._parts = parts
        self.principal = Principal(owner="")
        self.token = ""
        self._hellos = 0
        self._exclusive_name = ""
        self._watch_no_more: Callable[[], None] = lambda: None

    @property
    def owner(self) -> str:
        """Whose its jobs are."""
        return self.principal.owner

    def holds(self, event: Received) -> bool:
        """Whether it need not be found out who says this: no Hello, and what is known still holds."""
        return event.kind != "hello" and self._parts.identities.fresh(self.principal)

    def known(self, event: Received) -> Principal | None:
        """Who says it, by the token of a Hello, or once more by that of the last one; None where the records have to be asked.

        Raises Refusal.
        """
        if event.kind == "hello":
            self._hellos += 1
            hello = cast(pb.Hello, event.message)
            check_hello(hello)
            self.token = hello.token
        return self._parts.identities.known(self.token)

    async def ask(self, session_id: str) -> Principal | Refusal:
        """The same of the records."""
        try:
            return await self._parts.identities.principal(self.token)
        except Refusal as refusal:
            return refusal
        except Exception:
            log.exception("login.broken", session=session_id)
            return Refusal(Code.INTERNAL_ERROR, "the server erred; its log says how")

    def is_over(self, event: Received, refusal: Refusal) -> bool:
        """Whether a connection that was refused so is to be closed: its token is good no more, or it has guessed enough."""
        if event.kind == "hello":
            return self._hellos >= MAX_HELLOS
        return refusal.code is Code.UNAUTHENTICATED

    def begin(self, hello: pb.Hello, session: Session, lost: Callable[[Refusal], None]) -> None:
        """It is greeted: others of its exclusive name are put out, and `lost` is called when its token is good no more."""
        if hello.exclusive:
            self._exclusive_name = hello.client_name
            self._parts.exclusives.take(self.owner, hello.client_name, session)
        self._watch_no_more()
        self._watch_no_more = self._parts.vigil.watch(self.principal, self.token, lost)

    def watch_no_more(self) -> None:
        """The connection closes."""
        self._watch_no_more()

    def end(self, session: Session) -> None:
        """It is gone."""
        self._watch_no_more()
        self._parts.exclusives.leave(self.owner, self._exclusive_name, session)
