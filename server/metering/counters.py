"""Counters in windows: each is opened by what is first added, and gone when its time is over."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

MOST_WINDOWS = 100_000  # of one length, 200 bytes each: names that a stranger makes up must not fill the memory


@dataclass(frozen=True, slots=True)
class Counted:
    """What a window holds now, in how many seconds it ends, and who keeps it, and takes back what was added."""

    total: int
    resets_in: float
    by: Counters


class Counters(Protocol):
    """Where windows are kept."""

    async def add(self, key: str, seconds: int, amount: int) -> Counted:
        """Add to the key's window of this length, or open one."""
        ...

    async def take_back(self, key: str, seconds: int, amount: int) -> None:
        """Undo an `add`; nothing where its window has ended."""
        ...


@dataclass(slots=True)
class _Window:
    total: int
    ends_at: float


class OwnCounters:
    """`Counters` of this process. `now` must not jump when somebody sets the clock."""

    def __init__(self, now: Callable[[], float] = time.monotonic, most: int = MOST_WINDOWS) -> None:
        self._now = now
        self._most = most
        self._windows: dict[int, OrderedDict[str, _Window]] = {}  # by length, so that what ends first stands first

    async def add(self, key: str, seconds: int, amount: int) -> Counted:
        """At once."""
        now = self._now()
        windows = self._windows.setdefault(seconds, OrderedDict())
        window = windows.get(key)
        if window is None or window.ends_at <= now:
            self._make_room(windows, now)
            windows.pop(key, None)
            window = windows[key] = _Window(0, now + seconds)
        window.total += amount
        return Counted(window.total, window.ends_at - now, self)

    async def take_back(self, key: str, seconds: int, amount: int) -> None:
        """At once."""
        window = self._windows.get(seconds, OrderedDict()).get(key)
        if window is not None and window.ends_at > self._now():
            window.total = max(0, window.total - amount)

    def _make_room(self, windows: OrderedDict[str, _Window], now: float) -> None:
        while windows and (len(windows) >= self._most or next(iter(windows.values())).ends_at <= now):
            windows.popitem(last=False)

    def __len__(self) -> int:
        return sum(map(len, self._windows.values()))
