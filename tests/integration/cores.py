"""How long processes wait for a core, so that a test can tell what the server takes from what a busy machine does."""

from __future__ import annotations

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


def stream_processes(server: int) -> list[psutil.Process]:
    """Those of a server's process, the oldest first."""
    children = psutil.Process(server).children(recursive=True)
    found = [child for child in children if any(part.endswith("ai/live/child.py") for part in child.cmdline())]
    return sorted(found, key=lambda child: child.create_time())
