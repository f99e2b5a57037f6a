"""Memory of a device that is used by others than the engine's own models, in the same budget and by the same rules.

A lodger (a custom model's process) asks for room before it comes, and waits in the same line as models that are to be loaded;
it says what it takes while it is there, and whether it is in use. When another needs the room, the one that was not used for
longest is unloaded, whether that is a model or a lodger. A lodger goes by itself, after it was asked to: what it has is free when
it says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from ai.memory import Memory
from ai.types import EngineError


@dataclass(frozen=True, slots=True)
class Lodger:
    """Who wants room: so many bytes at first. The three are called on the loop's thread.

    `refused` where there will never be so much. `leave` is to end in `Lodgings.gone`: at once where the lodger is idle, else when
    what it does at present is done.
    """

    name: str
    size: int
    granted: Callable[[], None]
    refused: Callable[[EngineError], None]
    leave: Callable[[], None]


class Lodgings(Protocol):
    """Where lodgers ask. From any thread."""

    def lodge(self, lodger: Lodger) -> None:
        """Ask for room; exactly one of `granted` and `refused` follows, unless `lodger_gone` comes first."""
        ...

    def lodger_takes(self, name: str, size: int) -> None:
        """What it takes now, as measured."""
        ...

    def lodger_busy(self, name: str, busy: bool) -> None:
        """Whether it is in use. It is from the moment it asks."""
        ...

    def lodger_gone(self, name: str) -> None:
        """It takes nothing any more, or does not want to come."""
        ...


@dataclass(slots=True)
class _Place:
    lodger: Lodger
    size: int
    used_at: float
    busy: bool = True
    leaving: bool = False


class Lodgers:
    """Those who are there. On the loop's thread."""

    def __init__(self, memory: Memory, clock: Callable[[], float]) -> None:
        self._memory = memory
        self._clock = clock
        self._places: dict[str, _Place] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def come(self, lodger: Lodger) -> None:
        """There is room for it."""
        self._places[lodger.name] = _Place(lodger, lodger.size, self._clock())
        self._memory.hold_model(lodger.name, lodger.size)
        lodger.granted()

    def takes(self, name: str, size: int) -> None:
        """What it takes now."""
        if name in self._places:
            self._places[name].size = size
            self._memory.hold_model(name, size)

    def busy(self, name: str, busy: bool) -> None:
        """Whether it is in use."""
        if name in self._places:
            self._places[name].busy = busy
            self._places[name].used_at = self._clock()

    def gone(self, name: str) -> None:
        """It is there no more."""
        if self._places.pop(name, None) is not None:
            self._memory.release_model(name)

    @property
    def coming_free(self) -> int:
        """Bytes of those who were asked to go."""
        return sum(place.size for place in self._places.values() if place.leaving)

    @property
    def leaving(self) -> bool:
        """Whether somebody was asked to."""
        return any(place.leaving for place in self._places.values())

    def idle(self) -> Iterator[tuple[float, str]]:
        """Who might be asked to go at once, with when it was last used."""
        return self._staying(busy=False)

    def in_use(self) -> Iterator[tuple[float, str]]:
        """Who might go when it is done with what it does."""
        return self._staying(busy=True)

    def ask_out(self, name: str) -> None:
        """Ask it to go."""
        self._places[name].leaving = True
        self._places[name].lodger.leave()

    def ask_out_unused_since(self, then: float) -> None:
        """Ask those to go whom nobody has used since then."""
        for used_at, name in list(self.idle()):
            if used_at <= then:
                self.ask_out(name)

    def _staying(self, *, busy: bool) -> Iterator[tuple[float, str]]:
        places = self._places.items()
        return ((place.used_at, name) for name, place in places if place.busy is busy and not place.leaving)
