"""What there is to predict with on this node, and who may: the settings' models, and those that users registered.

    ""                      the first of the settings
    fox                     the caller's own model of that name, else the settings'
    ada/fox                 Ada's, if it is the caller's too or public; which version says its weights
    ada/fox:1.1.0, 3b4c…    that version
    4f8c…                   by the id of its record

Of adapters: `ink` is the caller's own, else the model card's; `ada/ink` is Ada's. Everything here runs on the reactor thread and
answers at once; `server.catalogue.hosting` keeps it up to date.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ai.cards import Card
from server.adapter_names import registered_name
from server.errors import Code, Refusal
from server.json_schema import Schema
from server.model_names import names_of, not_here, version_of
from server.model_records import AdapterRecord, CheckState, ModelRecord, VersionRecord
from watermark import Signature

RETRY_CHECKING = 2.0  # seconds; most looks at a model's files take less
NOTHING: Schema = {}


async def nothing_new() -> bool:
    """Where nobody tells of anything."""
    return False


class Choice(NamedTuple):
    """What a request is carried out with; `schema` is the version's own, beside what its kind takes anyway."""

    card: Card
    schema: Schema


@dataclass(frozen=True, slots=True)
class Offered:
    """A version that this node can use, or (`problem`) cannot."""

    record: ModelRecord
    version: VersionRecord
    card: Card
    problem: str = ""


class Catalogue:
    """Begins with the settings' cards, the default first. Iterates over the names of all cards, as `in` knows them: also those
    that are only there until the last job of a deleted model has ended."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self._cards = {card.name: card for card in cards}
        self._words = {word: card.name for card in reversed(cards) for word in names_of(card.name)}
        self._default = cards[0].name
        self._models: dict[str, ModelRecord] = {}
        self._named: dict[tuple[str, str], str] = {}  # (owner, name) → id
        self._versions: dict[str, tuple[str, str]] = {}  # a version's id → the model's, and the version
        self._offered: dict[str, Offered] = {}  # by the card's name
        self._leaving: dict[str, Offered] = {}
        self._adapters: dict[str, AdapterRecord] = {}
        self._adapter_ids: dict[tuple[str, str], str] = {}

    # What jobs ask

    def choose(self, owner: str, wanted: str, ticket: str, field: str = "model") -> Choice:
        """What the caller means. Of a model with several versions the same `ticket` gives the same one, on every node.

        Raises Refusal (MODEL_NOT_FOUND; UNAVAILABLE while it is being checked).
        """
        own = self._named.get((owner, wanted))
        if own is None and (not wanted or wanted in self._words):
            return Choice(self._cards[self._words[wanted] if wanted else self._default], NOTHING)
        record, version = self.find(owner, wanted, field)
        chosen = _by_weight(record, ticket) if version is None else version
        offered = self._offered.get(record.card_name(chosen.version)) if chosen else None
        if offered is None or offered.problem:
            raise self._not_now(record, chosen or version or record.current, offered, field)
        return Choice(offered.card, offered.version.input_schema)

    def find(self, owner: str, wanted: str, field: str = "model") -> tuple[ModelRecord, VersionRecord | None]:
        """A registered model, and the version where one was named. Raises Refusal (MODEL_NOT_FOUND)."""
        model_id, version = self._meant(owner, wanted)
        record = self._models.get(model_id)
        if record is None or not record.may_use(owner):
            raise not_here(wanted, self.names(owner), field)
        if not version:
            return record, None
        found = record.version(version)
        if found is None:
            raise not_here(wanted, (f"{record.full_name}:{one.version}" for one in record.versions), field)
        return record, found

    def names(self, owner: str) -> Iterator[str]:
        """Of all models that the caller may use, as they are said: the settings' and then the others'."""
        yield from self._cards
        yield from (record.full_name for record in self._models.values() if record.may_use(owner))

    def by_card(self, name: str) -> Offered | None:
        """A registered version by its card's name, while it is offered."""
        return self._offered.get(name)

    def card(self, name: str) -> Card | None:
        """By its exact name, whoever asks: for jobs that were admitted."""
        offered = self._offered.get(name) or self._leaving.get(name)
        return self._cards.get(name) or (offered.card if offered else None)

    def __contains__(self, name: object) -> bool:
        return name in self._cards or name in self._offered or name in self._leaving

    def __iter__(self) -> Iterator[str]:
        yield from self._cards
        yield from self._offered
        yield from self._leaving

    def __len__(self) -> int:
        return len(self._cards) + len(self._offered) + len(self._leaving)

    # Adapters

    def adapter(self, owner: str, name: str) -> AdapterRecord | None:
        """The caller's own by its plain name, or one by owner/name that the caller may use."""
        there = name.partition(":")[0].rpartition("/")
        found = self._adapters.get(self._adapter_ids.get((there[0] or owner, there[2]), ""))
        if found is None or not found.may_use(owner):
            return None
        return found if ":" not in name or name == registered_name(found.owner, found.name, found.sha256) else None

    def signature(self, name: str) -> Signature | None:
        """The artist's of an uploaded adapter, by what a request is recorded with."""
        owner, _, bare = name.partition(":")[0].rpartition("/")
        found = self._adapters.get(self._adapter_ids.get((owner, bare), ""))
        return found.signature if found is not None else None

    def adapters(self, owner: str) -> list[AdapterRecord]:
        """All that the caller may use, the newest first."""
        there = [one for one in self._adapters.values() if one.may_use(owner)]
        return sorted(there, key=lambda one: (-one.created_at, one.id))

    def adapter_by_id(self, adapter_id: str) -> AdapterRecord | None:
        """Whoever owns it."""
        return self._adapters.get(adapter_id)

    # What is listed

    @property
    def own(self) -> Mapping[str, Card]:
        """The settings' cards by name, the default first."""
        return self._cards

    def records(self, owner: str) -> list[ModelRecord]:
        """Models that the caller may see, the oldest first."""
        there = [one for one in self._models.values() if one.may_use(owner)]
        return sorted(there, key=lambda one: (one.created_at, one.id))

    def every_record(self) -> list[ModelRecord]:
        """Whoever owns them."""
        return list(self._models.values())

    def record(self, model_id: str) -> ModelRecord | None:
        """Whoever owns it."""
        return self._models.get(model_id)

    def offered(self, record: ModelRecord, version: VersionRecord) -> Offered | None:
        """As this node has it."""
        return self._offered.get(record.card_name(version.version))

    # What hosting tells

    def put(self, record: ModelRecord) -> None:
        """A model as the records have it now."""
        self.drop(record.id)
        self._models[record.id] = record
        self._named[record.owner, record.name] = record.id
        for version in record.versions:
            if not version.deleted:
                self._versions[version_of(record.card_name(version.version))] = (record.id, version.version)
        for name, offered in list(self._offered.items()):
            if offered.record.id == record.id:
                version_now = record.version(offered.version.version)
                if version_now is None:
                    self._leaving[name] = self._offered.pop(name)
                else:
                    self._offered[name] = Offered(record, version_now, offered.card, offered.problem)

    def drop(self, model_id: str) -> None:
        """A model that there is no more; the cards of its versions stay until `forget`."""
        record = self._models.pop(model_id, None)
        if record is not None:
            self._named.pop((record.owner, record.name), None)
            self._versions = {key: found for key, found in self._versions.items() if found[0] != model_id}

    def withdraw(self, model_id: str) -> None:
        """Drop it, and offer its versions no more: their jobs go on."""
        self.drop(model_id)
        for name in [name for name, offered in self._offered.items() if offered.record.id == model_id]:
            self._leaving[name] = self._offered.pop(name)

    def offer(self, record: ModelRecord, version: VersionRecord, card: Card, problem: str = "") -> None:
        """A version that is here, or why it cannot be."""
        self._offered[card.name] = Offered(record, version, card, problem)

    @property
    def leaving(self) -> list[str]:
        """Cards that nobody may choose any more."""
        return list(self._leaving)

    def forget(self, name: str) -> None:
        """A card that no job needs any more."""
        self._leaving.pop(name, None)

    def put_adapter(self, record: AdapterRecord) -> None:
        """An adapter as the records have it now."""
        self.drop_adapter(record.id)
        self._adapters[record.id] = record
        self._adapter_ids[record.owner, record.name] = record.id

    def drop_adapter(self, adapter_id: str) -> None:
        """One that there is no more."""
        record = self._adapters.pop(adapter_id, None)
        if record is not None:
            self._adapter_ids.pop((record.owner, record.name), None)

    # Inside

    def _meant(self, owner: str, wanted: str) -> tuple[str, str]:
        """The id of a model, and a version or ""."""
        if wanted in self._versions:
            return self._versions[wanted]
        bare, _, version = wanted.partition(":")
        version, _, model_id = version.partition("@")
        if version in self._versions and self._versions[version][0] == self._id_of(owner, bare):
            return self._versions[version]
        found = self._id_of(owner, bare)
        return (found if model_id in ("", found) else "", version)

    def _id_of(self, owner: str, bare: str) -> str:
        theirs, slash, name = bare.rpartition("/")
        key = (theirs, name) if slash else (owner, bare)
        return self._named.get(key) or (bare if bare in self._models else "")

    def _not_now(
        self, record: ModelRecord, version: VersionRecord | None, offered: Offered | None, field: str
    ) -> Refusal:
        if version is None:
            return Refusal(Code.MODEL_NOT_FOUND, f"{field}: {record.full_name} has no version", field=field)
        name = f"{record.full_name}:{version.version}"
        if version.state is CheckState.REFUSED:
            return Refusal(Code.MODEL_NOT_FOUND, f"{field}: {name} was refused: {version.problem}", field=field)
        if offered is not None and offered.problem:
            return Refusal(
                Code.MODEL_LOAD_FAILED, f"{field}: {name} cannot be used here: {offered.problem}", field=field
            )
        text = f"{field}: {name} is being looked at; try again in a moment"
        return Refusal(Code.UNAVAILABLE, text, field=field, retry_after_seconds=RETRY_CHECKING)


def _by_weight(record: ModelRecord, ticket: str) -> VersionRecord | None:
    """The version that a ticket falls to, of those that are ready; the newest where none has a share."""
    ready = [one for one in record.versions if one.state is CheckState.READY and not one.deleted]
    shares = [one for one in ready if one.weight > 0]
    if not shares:
        return max(ready, key=lambda one: one.created_at, default=None)
    drawn = int.from_bytes(hashlib.sha256(f"{record.id} {ticket}".encode("utf-8", "surrogatepass")).digest()[:8])
    left = drawn % sum(one.weight for one in shares)
    for one in shares:
        left -= one.weight
        if left < 0:
            return one
    raise AssertionError("unreachable")
