"""How long processes wait for a core, so that a test can tell what the server takes from what a busy machine does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path

import psutil


def waited_for_a_core(process: int) -> float:
    """Seconds that its main thread was ready to run and did not, in all its life, by the kernel's count (0 without one)."""
    told = Path(f"/proc/{process}/schedstat")
    return int(told.read_text().split()[1]) / 1e9 if told.exists() else 0.0


class Waits:
    """Of some processes, from now on."""

    def __init__(self, processes: list[int]) -> None:
        self._before = {process: waited_for_a_core(process) for process in processes}

    @property
    def longest(self) -> float:
        """Seconds; of the one that has waited most. Several may have waited at once: they were held up at least so long."""
        return max(waited_for_a_core(process) - before for process, before in self._before.items())


class WaitsByTime:
    """Of some processes from now on, looked at every so often (`look`): what lasted for a part of the time has its own."""

    def __init__(self, processes: list[int], every: float = 0.02) -> None:
        self._waits = Waits(processes)
        self._every = every
        self._began = time.monotonic()
        self.seen: list[tuple[float, float]] = []
        """Seconds from now, and how long the one that had waited most had by then."""

    async def look(self) -> None:
        """Until it is cancelled, or one of them is gone."""
        while True:
            self.seen.append((time.monotonic() - self._began, self._waits.longest))
            await asyncio.sleep(self._every)

    def within(self, seconds: float) -> float:
        """How long the one that waited most did in the first so many seconds."""
        return max((waited for at, waited in self.seen if at <= seconds), default=0.0)


def worst(gaps: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Of gaps, each with the seconds that somebody waited for a core in it, the one that was longest but for these."""
    return max(gaps, key=lambda one: one[0] - one[1])


def stream_processes(server: int) -> list[psutil.Process]:
    """Those of a server's process, the oldest first."""
    children = psutil.Process(server).children(recursive=True)
    found = [child for child in children if any(part.endswith("ai/live/child.py") for part in child.cmdline())]
    return sorted(found, key=lambda child: child.create_time())
