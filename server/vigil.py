"""Whoever follows something for long is asked for again: a stream ends soon after its key was revoked or its session is over.

A request is looked at when it comes; a stream says things for hours after that. What this process changes of an account is
noticed at the next look, what another node changes when what is remembered of the credential is too old (`Identities.fresh`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.clock import Clock, Timer
from server.errors import Code, Refusal
from server.futures import Tasks
from server.identity import Identities
from server.principal import Principal

EVERY = 1.0  # seconds between looks, each of which costs some microseconds a stream
AT_ONCE = 100  # credentials that one look asks the records for; the next ones have their turn a second later


@dataclass(slots=True, eq=False)
class _Watched:
    principal: Principal
    token: str
    lost: Callable[[Refusal], None]


class Vigil:
    """Looks at all open streams once in `EVERY` seconds, by a timer that runs while there are any."""

    def __init__(self, identities: Identities, clock: Clock) -> None:
        self._identities = identities
        self._clock = clock
        self._tasks = Tasks()
        self._watched: dict[_Watched, None] = {}
        self._asking: set[str] = set()
        self._timer: Timer | None = None

    def watch(self, principal: Principal, token: str, lost: Callable[[Refusal], None]) -> Callable[[], None]:
        """Call `lost`, once, when the token that this was found by is good no more. Returns what ends the watching.

        Tokens of the settings hold for as long as the server runs.
        """
        if not principal.user_id:
            return lambda: None
        one = _Watched(principal, token, lost)
        self._watched[one] = None
        if self._timer is None:
            self._timer = self._clock.callLater(EVERY, self._look)
        return lambda: self._leave(one)

    def _leave(self, one: _Watched) -> None:
        self._watched.pop(one, None)
        if not self._watched and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._clock.callLater(EVERY, self._look)
        stale = {one.token for one in self._watched if not self._identities.fresh(one.principal)}
        for token in sorted(stale - self._asking)[:AT_ONCE]:
            self._asking.add(token)
            self._tasks.start(self._ask(token))

    async def _ask(self, token: str) -> None:
        try:
            principal = await self._identities.principal(token)
        except Refusal as refusal:
            if refusal.code is Code.UNAUTHENTICATED:  # else nobody can say now: asked again at the next look
                self._end(token, refusal)
            return
        finally:
            self._asking.discard(token)
        for one in self._watched:
            if one.token == token:
                one.principal = principal

    def _end(self, token: str, refusal: Refusal) -> None:
        for one in tuple(self._watched):
            if one.token == token:
                self._leave(one)
                one.lost(refusal)
