"""The models in memory, each with the adapters that are there for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ai.adapters.residents import Residents
from ai.memory import Memory

if TYPE_CHECKING:
    from ai.families.family import Model
    from ai.text.model import TextModel


@dataclass(slots=True)
class Place:
    """A model in memory, and its adapters. `fresh` until it has made a step: it was waited for, and is not to go before it was
    used."""

    model: Model | TextModel
    residents: Residents
    used_at: float
    fresh: bool = True


class Places(Mapping[str, Place]):
    """By the models' names. What their adapters take is told to the budget; those of models that are gone still count."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._places: dict[str, Place] = {}
        self._gone_hits, self._gone_loads, self._gone_adapters = 0, 0, 0  # of models that were unloaded

    def __getitem__(self, name: str) -> Place:
        return self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def put(self, name: str, place: Place) -> None:
        """It is in memory."""
        self._places[name] = place

    def take(self, name: str) -> Place:
        """It is to be there no more."""
        place = self._places.pop(name)
        self._gone_hits += place.residents.hits
        self._gone_loads += place.residents.loads
        self._gone_adapters += place.residents.evictions + place.residents.count
        return place

    def drop_idle_adapters(self) -> bool:
        """Let go of those that nobody wears. False where that makes no room."""
        before = self.weigh_adapters()
        for place in list(self._places.values()):
            place.residents.drop_idle()
        return self.weigh_adapters() < before

    def weigh_adapters(self) -> int:
        """Have the budget know what the models' adapters take, and say what they take together."""
        sizes = {name: place.model.adapters.total_bytes for name, place in self._places.items()}
        for name, size in sizes.items():
            self._memory.hold_adapters(name, size)
        return sum(sizes.values())

    @property
    def adapter_hits(self) -> int:
        """How many adapters were in memory when they were asked for."""
        return self._gone_hits + sum(place.residents.hits for place in self._places.values())

    @property
    def adapter_loads(self) -> int:
        """How many adapters had to be read."""
        return self._gone_loads + sum(place.residents.loads for place in self._places.values())

    @property
    def adapters(self) -> int:
        """How many adapters are in slots."""
        return sum(place.residents.count for place in self._places.values())

    @property
    def adapter_evictions(self) -> int:
        """How many adapters were let go of, to make room or with their model."""
        return self._gone_adapters + sum(place.residents.evictions for place in self._places.values())
