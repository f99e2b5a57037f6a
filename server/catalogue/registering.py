"""Taking models from users: what is wrong with the words is refused at once, what is wrong with the files is found by looking at
them, which takes its time on a thread; until then the version is `checking`.

The first version of a model gets all requests; those that follow get none before their owner gives them a share.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from ai.types import AdapterError, EngineError
from server.catalogue.catalogue import Catalogue
from server.catalogue.hosting import Hosting, ModelSource
from server.catalogue.kinds import Kind, for_hardware, kind_of
from server.catalogue.places import PlaceRules, read_place
from server.catalogue.store import CatalogueStore
from server.catalogue_commands import ChangeModel, RegisterModel, RemoveModel, RollBack, ShareTraffic
from server.clock import Clock
from server.errors import AtelierError, Code, RecordsUnavailable, Refusal
from server.futures import Tasks
from server.interfaces import Pool
from server.json_schema import checked_schema
from server.model_names import NAME, VERSION
from server.model_records import CheckState, ModelRecord, VersionRecord, Visibility

log = structlog.get_logger("atelier.models")

HARDWARE = ("auto", "cpu", "gpu")
RESERVED = frozenset(
    {"metrics", "versions", "predictions", "traffic", "promote", "rollback"}
)  # they stand in addresses
MAX_DESCRIPTION = 2000  # characters
MAX_VERSIONS = 100  # of one model, those that were deleted too
MOST_WEIGHT = 1000
_NAME, _VERSION = re.compile(NAME), re.compile(VERSION)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """How many models an owner may have, what the weights of one may take on any device (bytes; 0: not known), and on which
    devices this server paints (as torch names them; none: it does not know, a gateway)."""

    models_per_owner: int
    bytes_of: Callable[[int], tuple[int, int]]  # numbers → what they take, and what may be taken
    devices: Callable[[], Sequence[str]]


class Registrar:
    """Everything here runs on the reactor thread, but for the look at the files."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        hosting: Hosting,
        store: CatalogueStore,
        source: ModelSource,
        kinds: Sequence[Kind],
        rules: PlaceRules,
        bounds: Bounds,
        pool: Pool,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._catalogue = catalogue
        self._hosting = hosting
        self._store = store
        self._source = source
        self._kinds = kinds
        self._rules = rules
        self._bounds = bounds
        self._pool = pool
        self._clock = clock
        self._new_id = new_id
        self._tasks = Tasks()
        self._looking = asyncio.Semaphore(1)  # a look reads whole files: one after the other
        self._checking: set[str] = set()

    # Commands

    async def register(self, command: RegisterModel) -> ModelRecord:
        """The model, with the new version being checked. Raises Refusal."""
        version = self._version(command)
        await self._hosting.refresh()
        own = next((one for one in self._catalogue.records(command.owner) if _is(one, command)), None)
        if own is None:
            record = self._new(command, version)
            await self._store.add(record, most=self._bounds.models_per_owner)
        else:
            record = await self._store.change(own.id, lambda there: _with_version(there, command, version))
        await self._hosting.refresh()
        self._check(record.id, command.version)
        log.info("model.registered", model=f"{record.full_name}:{command.version}", owner=command.owner)
        return record

    async def change(self, command: ChangeModel) -> ModelRecord:
        """Description and visibility. Raises Refusal."""
        if command.description is not None:
            _check_description(command.description)
        at = self._clock.seconds()

        def edit(record: ModelRecord) -> ModelRecord:
            return replace(
                record,
                description=record.description if command.description is None else command.description,
                visibility=command.visibility or record.visibility,
                updated_at=at,
            )

        return await self._edited(command.owner, command.model, edit)

    async def share(self, command: ShareTraffic) -> ModelRecord:
        """Which versions get which share. Raises Refusal."""
        at = self._clock.seconds()
        return await self._edited(command.owner, command.model, lambda there: _shared(there, command.weights, at))

    async def roll_back(self, command: RollBack) -> ModelRecord:
        """The shares as they were. Raises Refusal."""
        at = self._clock.seconds()

        def edit(record: ModelRecord) -> ModelRecord:
            before = {name: share for name, share in record.previous.items() if _is_ready(record, name)}
            if not any(before.values()):
                raise Refusal.invalid(
                    "model", "one whose shares were changed, to versions that are still there", record.name
                )
            return _shared(record, before, at)

        return await self._edited(command.owner, command.model, edit)

    async def remove(self, command: RemoveModel) -> ModelRecord:
        """What it was. Raises Refusal."""
        at = self._clock.seconds()
        if not command.version:
            return await self._edited(
                command.owner, command.model, lambda there: replace(there, deleted=True, updated_at=at)
            )
        return await self._edited(command.owner, command.model, lambda there: _without(there, command.version, at))

    # What an earlier life has left

    def resume(self) -> None:
        """Look again at what was being looked at when this node stopped."""
        for record in self._catalogue.every_record():
            for version in record.versions:
                if version.state is CheckState.CHECKING and not version.deleted:
                    self._check(record.id, version.version)

    # Inside

    def _version(self, command: RegisterModel) -> VersionRecord:
        """Raises Refusal for whatever can be told without the files."""
        for field, text, pattern in (("name", command.name, _NAME), ("version", command.version, _VERSION)):
            if not pattern.fullmatch(text):
                limit = "1 to 64 letters, digits, dots, _ and - (a version also +), the first a letter or digit"
                raise Refusal.invalid(field, limit, text)
        if not _NAME.fullmatch(command.owner):
            raise Refusal(
                Code.PERMISSION_DENIED, "whoever registers models needs a name of letters and digits", field="owner"
            )
        if command.name in RESERVED:
            raise Refusal.invalid(
                "name", f"none of {', '.join(sorted(RESERVED))}, which stand in addresses", command.name
            )
        if command.version == "refiner":
            raise Refusal.invalid("version", "another name", command.version)
        _check_description(command.description or "")
        kind = kind_of(self._kinds, command.model_type)
        if kind is None:
            types = [name for one in self._kinds for name in one.types]
            raise Refusal.invalid("model_type", f"one of {', '.join(types)}", command.model_type)
        self._check_hardware(command.hardware)
        read_place(command.path, self._rules)
        return VersionRecord(
            version=command.version,
            path=command.path,
            input_schema=checked_schema(command.input_schema, known=kind.inputs),
            hardware=command.hardware,
            created_at=self._clock.seconds(),
        )

    def _check_hardware(self, hardware: str) -> None:
        if hardware not in HARDWARE:
            raise Refusal.invalid("hardware", f"one of {', '.join(HARDWARE)}", hardware)
        devices = self._bounds.devices()
        kinds = {"cpu" if device == "cpu" else "gpu" for device in devices}
        if hardware != "auto" and devices and "auto" not in devices and hardware not in kinds:
            limit = f"auto or {' or '.join(sorted(kinds))}: this server paints on {', '.join(devices)}"
            raise Refusal.invalid("hardware", limit, hardware)

    def _new(self, command: RegisterModel, version: VersionRecord) -> ModelRecord:
        return ModelRecord(
            id=self._new_id(),
            owner=command.owner,
            name=command.name,
            description=command.description or "",
            model_type=command.model_type,
            visibility=command.visibility or Visibility.PRIVATE,
            created_at=version.created_at,
            updated_at=version.created_at,
            versions=(version,),
        )

    async def _edited(self, owner: str, wanted: str, edit: Callable[[ModelRecord], ModelRecord]) -> ModelRecord:
        """The owner's model, changed, and known here. Raises Refusal: not found, or not theirs."""
        try:
            record, _ = self._catalogue.find(owner, wanted)
        except Refusal:
            if not await self._hosting.refresh():
                raise
            record, _ = self._catalogue.find(owner, wanted)
        if record.owner != owner:
            raise Refusal(Code.PERMISSION_DENIED, f"{record.full_name} is not yours to change", field="model")
        changed = await self._store.change(record.id, edit)
        await self._hosting.refresh()
        return changed

    # The look at the files

    def _check(self, model_id: str, version: str) -> None:
        key = f"{model_id}:{version}"
        if key not in self._checking:
            self._checking.add(key)
            self._tasks.start(self._checked(model_id, version, key))

    async def _checked(self, model_id: str, version: str, key: str) -> None:
        try:
            async with self._looking:
                record = self._catalogue.record(model_id)
                there = None if record is None else record.version(version)
                if record is None or there is None:
                    return
                outcome = await self._outcome(record, there)
            await self._store.change(model_id, lambda now: _settled(now, outcome))
            await self._hosting.refresh()
            log.info("model.checked", model=key, state=outcome.state.value, problem=outcome.problem)
        except RecordsUnavailable as error:  # it stays `checking`, and is looked at again at the next start
            log.warning("model.unchecked", model=key, reason=error.reason)
        except Refusal as refusal:  # it was deleted meanwhile
            log.info("model.gone", model=key, reason=refusal.message)
        finally:
            self._checking.discard(key)

    async def _outcome(self, record: ModelRecord, version: VersionRecord) -> VersionRecord:
        """The version as it is found: ready, or refused."""
        name = record.card_name(version.version)
        kind = kind_of(self._kinds, record.model_type)
        assert kind is not None, "it was registered here"
        try:
            path = await self._source.bring(version.path, name)
            looked = await self._pool.run(kind.look, name, path)
            size, room = self._bounds.bytes_of(looked.numbers)
            if room and size > room:
                raise Refusal(Code.GPU_OUT_OF_MEMORY, f"its weights take {size:,} bytes, {room:,} may be used here")
        except OSError as error:
            return replace(version, state=CheckState.REFUSED, problem=error.strerror or str(error))
        except (EngineError, AdapterError, AtelierError) as error:
            return replace(version, state=CheckState.REFUSED, problem=str(error))
        except Exception:
            log.exception("model.look_broken", model=name)
            return replace(version, state=CheckState.REFUSED, problem="its files cannot be read")
        return replace(
            version,
            state=CheckState.READY,
            content_id=looked.content_id,
            size_bytes=size,
            card=kind.write(for_hardware(looked.card, version.hardware)),
        )


def _is(record: ModelRecord, command: RegisterModel) -> bool:
    return (record.owner, record.name) == (command.owner, command.name)


def _check_description(text: str) -> None:
    if len(text) > MAX_DESCRIPTION:
        raise Refusal.invalid("description", f"at most {MAX_DESCRIPTION} characters", text)


def _is_ready(record: ModelRecord, version: str) -> bool:
    found = record.version(version)
    return found is not None and found.state is CheckState.READY


def _with_version(record: ModelRecord, command: RegisterModel, version: VersionRecord) -> ModelRecord:
    """One more version, or in place of one that was refused. Raises Refusal."""
    if command.model_type != record.model_type:
        raise Refusal.invalid("model_type", f"{record.model_type}, as {record.full_name} is", command.model_type)
    older = next((one for one in record.versions if one.version == version.version), None)
    if older is not None and (older.deleted or older.state is not CheckState.REFUSED):
        limit = f"a version that {record.full_name} did not have before: what one is stays as it is"
        raise Refusal.invalid("version", limit, version.version)
    kept = tuple(one for one in record.versions if one is not older)
    if len(kept) >= MAX_VERSIONS:
        raise Refusal(Code.RESOURCE_EXHAUSTED, f"a model has at most {MAX_VERSIONS} versions", field="version")
    return replace(
        record,
        description=record.description if command.description is None else command.description,
        visibility=command.visibility or record.visibility,
        versions=(*kept, version),
        updated_at=version.created_at,
    )


def _settled(record: ModelRecord, outcome: VersionRecord) -> ModelRecord:
    """With what became of a look, once; the first version that is ready gets all requests."""
    alone = outcome.state is CheckState.READY and not any(one.weight for one in record.versions if not one.deleted)
    found = replace(outcome, weight=1) if alone else outcome
    return replace(
        record,
        versions=tuple(
            found if (one.version, one.state, one.deleted) == (outcome.version, CheckState.CHECKING, False) else one
            for one in record.versions
        ),
    )


def _shared(record: ModelRecord, weights: Mapping[str, int], at: float) -> ModelRecord:
    """With these shares, and the present ones to go back to. Raises Refusal."""
    for name, share in weights.items():
        field = f"weights.{name[:64]}"
        if not 0 <= share <= MOST_WEIGHT:
            raise Refusal.invalid(field, f"0 to {MOST_WEIGHT}", share)
        if not _is_ready(record, name):
            ready = [one.version for one in record.versions if _is_ready(record, one.version)]
            raise Refusal.invalid(field, f"a version that is ready: {', '.join(ready) or 'none is'}", name)
    if not sum(weights.values()):
        raise Refusal.invalid("weights", "shares of which one is more than 0", dict(weights))
    before = {one.version: one.weight for one in record.versions if one.weight}
    versions = tuple(replace(one, weight=weights.get(one.version, 0)) for one in record.versions)
    return replace(record, versions=versions, previous=before, updated_at=at)


def _without(record: ModelRecord, version: str, at: float) -> ModelRecord:
    """Without a version, which must have no share. Raises Refusal."""
    found = record.version(version)
    if found is None:
        raise Refusal(Code.MODEL_NOT_FOUND, f"{record.full_name} has no version {version[:64]!r}", field="version")
    if found.weight:
        raise Refusal.invalid("version", "one that gets no requests: promote another first", version)
    versions = tuple(replace(one, deleted=True) if one is found else one for one in record.versions)
    return replace(record, versions=versions, updated_at=at)
