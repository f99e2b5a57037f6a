"""How the server does during a run, second by second: by its own word through the door, and by what the system says of its
processes where they are on this machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import psutil

from bot.doors.door import Door, Health
from bot.errors import ClientError
from bot.waiting import pause
from server.clock import Clock
from server.errors import AtelierError

NUMBERS = tuple(
    name for name in Health.__dataclass_fields__ if name not in ("ready", "version", "problem")
)  # those that are drawn


class Processes:
    """Processes by name. One that is started anew gets its new id by `replace`."""

    def __init__(self, pids: dict[str, int]) -> None:
        self.pids = dict(pids)

    def replace(self, name: str, pid: int) -> None:
        """It has another id now."""
        self.pids[name] = pid

    def measure(self) -> dict[str, float]:
        """Resident bytes, threads and open descriptors, summed over each process and its children; what has ended is left out."""
        seen: dict[str, float] = {}
        for name, pid in self.pids.items():
            for kind, value in _of_tree(pid).items():
                seen[f"{name} {kind}"] = value
        return seen


def _of_tree(pid: int) -> dict[str, float]:
    try:
        top = psutil.Process(pid)
        processes = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return {}
    total = {"memory": 0.0, "threads": 0.0, "descriptors": 0.0}
    for process in processes:
        try:
            with process.oneshot():
                if process.status() == psutil.STATUS_ZOMBIE:
                    continue
                total["memory"] += process.memory_info().rss
                total["threads"] += process.num_threads()
                total["descriptors"] += process.num_fds()
        except psutil.NoSuchProcess:
            continue
    return total if total["memory"] else {}


class Sampler:
    """Takes a row every `every` seconds. `on_gone` hears once, in words, that the server will not come back."""

    def __init__(
        self,
        door: Door,
        processes: Processes,
        clock: Clock,
        now: Callable[[], float],
        every: float,
        on_gone: Callable[[str], None],
    ) -> None:
        self._door = door
        self._processes = processes
        self._clock = clock
        self._now = now
        self._every = every
        self._on_gone = on_gone
        self.rows: list[dict[str, float]] = []
        self.latest = Health()

    async def run(self) -> None:
        """Until it is cancelled. While the server is away rows have what the system says alone."""
        asking: asyncio.Task[Health] | None = None
        while True:
            if asking is None:
                asking = asyncio.ensure_future(self._door.health())
            await pause(self._clock, self._every)
            row = {"t": self._now(), **await asyncio.to_thread(self._processes.measure)}
            if asking.done():
                try:
                    self.latest = asking.result()
                except (ClientError, AtelierError) as error:
                    self._on_gone(str(error))
                    return
                told = asdict(self.latest)
                row |= {name: float(told[name]) for name in NUMBERS if told[name] is not None}
                asking = None
            self.rows.append(row)

    def columns(self) -> dict[str, list[Any]]:
        """The rows as columns, None where there is nothing."""
        names = dict.fromkeys(name for row in self.rows for name in row)
        return {name: [row.get(name) for row in self.rows] for name in names}
