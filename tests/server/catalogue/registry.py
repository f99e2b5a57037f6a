"""The catalogue's rooms over a house of fakes: records in memory, models whose files are words, a clock that tests turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ai.cards import ModelCard
from ai.families.checking import Looked
from ai.types import ModelLoadError
from server.catalogue.hosting import Hosting
from server.catalogue.kinds import KINDS, Kind
from server.catalogue.places import PlaceRules
from server.catalogue.registering import Bounds, Registrar
from server.catalogue.store import Changes, Record
from server.catalogue_commands import RegisterModel
from server.errors import Code, Refusal
from server.model_records import ModelRecord
from server.pools import InlinePool
from tests.server.fakes import CARD, settle
from tests.server.house import ADA, House

RULES = PlaceRules(roots=[Path("/srv/models")])


class MemoryCatalogue:
    """A `CatalogueStore`. `used` are the names that live jobs name."""

    def __init__(self) -> None:
        self.records: dict[str, tuple[int, Any]] = {}
        self.revision = 0
        self.used: set[str] = set()
        self.away: Exception | None = None

    async def changes(self, since: int) -> Changes:
        """Everything since then."""
        if self.away is not None:
            raise self.away
        found = sorted(entry for entry in self.records.values() if entry[0] > since)
        return Changes(self.revision, [record for _, record in found])

    async def add(self, record: Record, *, most: int) -> None:
        """A new one."""
        theirs = [one for _, one in self.records.values() if one.owner == record.owner and not one.deleted]
        assert all(one.name != record.name for one in theirs)
        if len(theirs) >= most:
            raise Refusal(Code.RESOURCE_EXHAUSTED, "too many")
        self._put(record)

    async def change(self, record_id: str, edit: Callable[[Any], Any]) -> Any:
        """As `edit` has it."""
        record = self.records[record_id][1] if record_id in self.records else None
        if record is None or record.deleted:
            raise Refusal(Code.MODEL_NOT_FOUND, "it is not here any more")
        return self._put(edit(record))

    async def in_use(self, name: str) -> bool:
        """Whether a test says so."""
        return name in self.used

    async def deleted(self, *, before: float) -> Sequence[Record]:
        """All that were."""
        return [one for _, one in self.records.values() if one.deleted]

    async def forget(self, record_ids: Sequence[str]) -> None:
        """Gone."""
        for record_id in record_ids:
            del self.records[record_id]

    def _put(self, record: Any) -> Any:
        self.revision += 1
        self.records[record.id] = (self.revision, record)
        return record


class FakeSource:
    """A `ModelSource`: a path is there unless `missing` has it."""

    def __init__(self) -> None:
        self.missing: set[str] = set()
        self.left: list[str] = []
        self.gate: asyncio.Event | None = None

    async def bring(self, path: str, name: str) -> Path:
        """The path itself."""
        if self.gate is not None:
            await self.gate.wait()
        if path in self.missing:
            raise ModelLoadError(f"{path}: there is no such file or folder on this machine")
        return Path(path)

    async def let_go(self, name: str) -> None:
        """Noted."""
        self.left.append(name)


def _look(name: str, path: Path) -> Looked:
    if path.name == "pickled":
        raise ModelLoadError("a pickle")
    return Looked(_card(name, path, {}), 1000, "c" * 64)


def _card(name: str, path: Path, shared: Any) -> ModelCard:
    return ModelCard(name=name, source=str(path), defaults=CARD.defaults, solvers=CARD.solvers)


KIND = Kind(
    types=KINDS[0].types, look=_look, read=_card, write=KINDS[0].write, parse=KINDS[0].parse, inputs=KINDS[0].inputs
)


class Node:
    """One node: its house, and what keeps it in step with the records it shares with others."""

    def __init__(
        self, store: MemoryCatalogue, *, paints: bool = True, room: int = 0, devices: Sequence[str] = ("cpu",)
    ) -> None:
        self.house = House()
        self.store = store
        self.source = FakeSource()
        ids = itertools.count(1)
        self.catalogue = self.house.catalogue
        self.hosting = Hosting(
            catalogue=self.catalogue,
            store=store,
            painter=self.house.painter,
            health=self.house.health,
            source=self.source,
            kinds=[KIND],
            shared={},
            pool=InlinePool(),
            clock=self.house.clock,
            every=2.0,
            drop_file=self._dropped,
            paints=paints,
        )
        self.registrar = Registrar(
            catalogue=self.catalogue,
            hosting=self.hosting,
            store=store,
            source=self.source,
            kinds=[KIND],
            rules=RULES,
            bounds=Bounds(models_per_owner=3, bytes_of=lambda numbers: (numbers * 4, room), devices=lambda: devices),
            pool=InlinePool(),
            clock=self.house.clock,
            new_id=lambda: f"{next(ids):016x}",
        )

    async def _dropped(self, record: Any) -> None:
        raise AssertionError(f"no adapter was stored: {record}")

    async def registered(self, name: str = "fox", owner: str = ADA, **more: Any) -> ModelRecord:
        """A model that was looked at."""
        made = await self.registrar.register(RegisterModel(owner=owner, name=name, path=more.pop("path", name), **more))
        await settle()
        record = self.catalogue.record(made.id)
        assert record is not None
        return record

    def painted(self) -> list[str]:
        """The cards that the painter has."""
        return [card.name for card in self.house.painter.cards]
