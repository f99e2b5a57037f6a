"""How late the reactor is: a timer that notes by how much it was missed."""

from __future__ import annotations

from collections import deque

from ai.histogram import Histogram
from server.clock import Clock, Timer

INTERVAL = 0.05  # seconds; 20 timers a second cost nothing that can be measured
KEPT = 1200  # one minute of them
BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)  # seconds; the promise is 0.01


class LagMeter:
    """Reactor lag over the last minute; `histogram` (seconds) has all since the start."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lags: deque[float] = deque(maxlen=KEPT)
        self.histogram = Histogram(BOUNDS)
        self._due = 0.0
        self._call: Timer | None = None

    def start(self) -> None:
        """Measure from now on."""
        self._due = self._clock.seconds() + INTERVAL
        self._call = self._clock.callLater(INTERVAL, self._tick)

    def stop(self) -> None:
        """Measure no more."""
        if self._call is not None and self._call.active():
            self._call.cancel()

    def forget(self) -> None:
        """Start the minute anew (the promise holds from `ready` on)."""
        self._lags.clear()

    def p99_ms(self) -> float:
        """The lag, in milliseconds, that 99 of 100 timers stayed under."""
        if not self._lags:
            return 0.0
        ordered = sorted(self._lags)
        return ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)] * 1000

    def _tick(self) -> None:
        lag = max(0.0, self._clock.seconds() - self._due)
        self._lags.append(lag)
        self.histogram = self.histogram.add(lag)
        self.start()
