"""One call that is to come, at most."""

from __future__ import annotations

from collections.abc import Callable

from ai.custom.process import Clock, Timer


class Alarm:
    """Set, it forgets the call that it was set to before."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._timer: Timer | None = None

    @property
    def is_set(self) -> bool:
        """Whether a call is to come."""
        return self._timer is not None and self._timer.active()

    def set(self, seconds: float, act: Callable[..., object], *arguments: object) -> None:
        """Call so many seconds from now."""
        self.drop()
        self._timer = self._clock.callLater(seconds, act, *arguments)

    def drop(self) -> None:
        """Call nobody."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
