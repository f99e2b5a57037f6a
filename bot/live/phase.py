"""When a server ticks, as its clients come to know it: from LiveOpened, and from the tick of each result. Pure; microseconds."""

from __future__ import annotations

GAIN = 0.05  # of what a tick is off: a late one is no new rhythm, a clock that drifts is followed within a second


class Phase:
    """Ticks of one server process, `hz` a second, one of them at `tick_us`."""

    def __init__(self, hz: float, tick_us: int) -> None:
        self._period = 1e6 / hz
        self._tick = float(tick_us)

    @property
    def period(self) -> float:
        """Between two ticks, seconds."""
        return self._period / 1e6

    def ticked(self, tick_us: int) -> None:
        """One was then."""
        off = (tick_us - self._tick + self._period / 2) % self._period - self._period / 2
        self._tick += GAIN * off

    def next_tick(self, after_us: float) -> float:
        """The first one that is not before."""
        return after_us + (self._tick - after_us) % self._period
