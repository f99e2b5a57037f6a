"""What an engine measures as it goes. Written on the loop's thread, read on any. Plain Python."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ai.types import EngineNumbers

UTILISATION_EVERY = 1.0  # seconds; the driver itself looks no more often than one to six times a second


class Tally:
    """An engine's numbers. `utilisation` tells the device's share of busy time (0 to 1), `device_memory` how much of its memory
    is used, and what it has (bytes); None where nothing does."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._numbers = EngineNumbers()
        self._looked_at = -UTILISATION_EVERY
        self.utilisation: Callable[[], float | None] = lambda: None
        self.device_memory: Callable[[], tuple[int | None, int | None]] = lambda: (None, None)

    @property
    def numbers(self) -> EngineNumbers:
        """What was measured up to now."""
        with self._lock:
            return self._numbers

    def set(self, **values: Any) -> None:
        """Numbers that are known as they are: who runs, what memory is held, …"""
        with self._lock:
            self._numbers = replace(self._numbers, **values)

    def step(self, samples: int, rows: int, seconds: float) -> None:
        """A step was made by so many samples, of which the network saw so many rows."""
        now = self._numbers
        self.set(
            last_batch=samples,
            last_rows=rows,
            steps=now.steps + 1,
            step_seconds=seconds,
            step_times=now.step_times.add(seconds),
            batches=now.batches.add(samples),
        )

    def seated(self, submitted_at: float) -> None:
        """A request got its first seat."""
        self.set(queue_waits=self._numbers.queue_waits.add(self._clock() - submitted_at))

    def joined(self, submitted_at: float) -> None:
        """A request's first step was made."""
        self.set(join_waits=self._numbers.join_waits.add(self._clock() - submitted_at))

    def look(self) -> None:
        """Ask the device's driver, if that is not too soon."""
        now = self._clock()
        if now - self._looked_at >= UTILISATION_EVERY:
            self._looked_at = now
            used, total = self.device_memory()
            self.set(gpu_utilisation=self.utilisation(), device_used=used, device_total=total)
