"""By when a peer must have said what. Absolute: a byte now and then moves nothing.

Until Hello is accepted, the connection's age counts; after that, the age of a frame that was begun, or else the time since
the last whole message. While we ourselves do not listen, nobody is late.
"""

from __future__ import annotations

from collections.abc import Callable

from server.clock import Clock, Timer
from server.errors import Code, StreamBroken


class Deadlines:
    """One connection's, in seconds. `on_late` is called once, with the reason. One timer serves all three."""

    __slots__ = (
        "_away_since", "_clock", "_connected_at", "_frame", "_frame_since", "_handshake", "_idle", "_last_message", "_on_late",
        "_open", "_timer",
    )  # fmt: skip

    def __init__(
        self, clock: Clock, on_late: Callable[[StreamBroken], None], *, handshake: float, frame: float, idle: float
    ) -> None:
        self._clock = clock
        self._on_late = on_late
        self._handshake = handshake
        self._frame = frame
        self._idle = idle
        self._open = False
        self._connected_at = self._last_message = clock.seconds()
        self._frame_since: float | None = None
        self._away_since: float | None = None
        self._timer: Timer | None = clock.callLater(handshake, self._check)

    def stop(self) -> None:
        """Nobody is late any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def opened(self) -> None:
        """Hello was accepted."""
        self._open = True

    def heard(self, whole_message: bool, frame_begun: bool) -> None:
        """Something was read: did it complete a message, and is a frame begun now."""
        if whole_message:
            self._last_message = self._clock.seconds()
            self._frame_since = None
        if frame_begun and self._frame_since is None and self._away_since is None:
            self._frame_since = self._clock.seconds()
            self._rearm()

    def pause(self) -> None:
        """We do not listen."""
        self._away_since = self._clock.seconds()

    def resume(self) -> None:
        """We listen again: all deadlines move on by as long as we did not."""
        if self._away_since is None:
            return
        away = self._clock.seconds() - self._away_since
        self._away_since = None
        self._last_message += away
        if self._frame_since is not None:
            self._frame_since += away
            self._rearm()

    def _rearm(self) -> None:
        """The next deadline may be earlier than the timer."""
        left = max(0.0, self._next()[0] - self._clock.seconds())
        if self._timer is not None and self._timer.getTime() > self._clock.seconds() + left:
            self._timer.reset(left)

    def _next(self) -> tuple[float, StreamBroken]:
        """When the peer is late, and how that is told."""
        if not self._open:
            text, code = f"no valid Hello within {self._handshake:g} s", Code.HANDSHAKE_TIMEOUT
            since, limit = self._connected_at, self._handshake
        elif self._frame_since is not None:
            text, code = f"a frame was begun and not completed within {self._frame:g} s", Code.FRAME_TIMEOUT
            since, limit = self._frame_since, self._frame
        else:
            text, code = f"nothing was heard for {self._idle:g} s", Code.IDLE_TIMEOUT
            since, limit = self._last_message, self._idle
        return since + limit, StreamBroken(code, text, limit=f"{limit:g} s")

    def _check(self) -> None:
        due, reason = self._next()
        now = self._clock.seconds()
        left = due - (now if self._away_since is None else self._away_since)
        self._timer = None
        if left > 0:
            self._timer = self._clock.callLater(left, self._check)
        else:
            self._on_late(reason)
