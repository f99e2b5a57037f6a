"""How much of a body is read: refused at once where Content-Length says too much, else when too much has come; and how much of
all bodies together is in memory.

By when it must have come is the connection's business (server.doors.http.connections).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.types import Message, Receive, Scope

from server.doors.http.errors import Refused
from server.errors import Code, Refusal

UPLOADS = "/v1/adapters"  # where a body goes to the disk as it comes
FORM_BYTES = 4 << 20  # of an upload's form beside its file
RETRY_AFTER = 2.0  # seconds; most bodies go as soon as their job is admitted


def too_large(limit: int) -> Refusal:
    """The refusal."""
    return Refusal(
        Code.FRAME_TOO_LARGE,
        f"the body has more than {limit} bytes, which is the limit",
        field="body",
        limit=f"{limit} bytes",
    )


def is_upload(scope: Mapping[str, Any]) -> bool:
    """Whether a request's body goes to the disk as it comes."""
    return bool(scope.get("method") == "POST" and scope.get("path") == UPLOADS)


class Bodies:
    """The bodies of all requests under way: at most `limit` bytes of one, `budget` of all of them."""

    def __init__(self, limit: int, budget: int, uploads: int = 0) -> None:
        self._limit = limit
        self._budget = budget
        self._uploads = uploads + FORM_BYTES if uploads else limit
        self.held = 0

    def limit_of(self, scope: Scope) -> int:
        """How many bytes the body of a request may have."""
        return self._uploads if is_upload(scope) else self._limit

    def reading(self, scope: Scope, receive: Receive, check: Callable[[], Awaitable[object]]) -> Body:
        """The body of one request; `check` is awaited before any of it is read, and may raise Refusal."""
        return Body(self, receive, check, self.limit_of(scope), held=not is_upload(scope))

    def take(self, size: int) -> None:
        """`size` bytes more of a body that is kept in memory. Raises Refused."""
        self.held += size
        if self.held > self._budget:
            text = "the bodies of other requests fill the memory that is for them"
            raise Refused(Refusal(Code.RESOURCE_EXHAUSTED, text, retry_after_seconds=RETRY_AFTER))


class Body:
    """A `receive` that raises Refused where its caller may not send, or too much has come. `let_go` when the request has ended:
    until then a route may have the body in its hands."""

    def __init__(
        self, bodies: Bodies, receive: Receive, check: Callable[[], Awaitable[object]], limit: int, *, held: bool
    ) -> None:
        self._bodies = bodies
        self._limit = limit
        self._held = held  # in memory, until the request has ended
        self._receive = receive
        self._check = check
        self._checked = False
        self._taken = 0

    async def __call__(self) -> Message:
        """The next message."""
        if not self._checked:
            try:
                await self._check()
            except Refusal as refusal:
                raise Refused(refusal) from None
            self._checked = True
        message = await self._receive()
        if message["type"] == "http.request":
            size = len(message.get("body", b""))
            self._taken += size
            if self._taken > self._limit:
                raise Refused(too_large(self._limit))
            if self._held:
                self._bodies.take(size)
        return message

    def let_go(self) -> None:
        """Nobody has it any more."""
        if self._held:
            self._bodies.held -= self._taken
        self._taken = 0
