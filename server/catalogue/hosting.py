"""Keeps this node in step with the records of models: what was registered, on whichever node, is brought here and offered, what
was deleted is let go of when its last job has ended.

A gateway offers what the records say and has no files; a node that paints and cannot have the files says so of that version, and
tries again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from ai.cards import Card
from ai.types import AdapterError, ModelLoadError
from server.adapter_names import registered_name
from server.catalogue.catalogue import Catalogue
from server.catalogue.kinds import Kind, for_hardware, kind_of
from server.catalogue.store import CatalogueStore
from server.clock import Clock, Pauses
from server.errors import AtelierError, RecordsUnavailable
from server.health import Health
from server.interfaces import Painter, Pool
from server.model_records import AdapterRecord, CheckState, ModelRecord, VersionRecord

log = structlog.get_logger("atelier.models")

AGAIN_AFTER = 60.0  # seconds until what could not be had here is tried again
LEAVES_AFTER = 30.0  # seconds that a deleted model's card stays at least: its last jobs may just be being admitted
FORGOTTEN_AFTER = 600.0  # seconds until a deleted record goes: every node has heard of it by then
PURGE_EVERY = 60.0  # seconds
BRINGS_AT_ONCE = 2
NEWS_WITHIN = 2.0  # seconds that a request waits for a model that is just being brought here


class ModelSource(Protocol):
    """Where the files of models come from (server.fetching.models)."""

    async def bring(self, path: str, name: str) -> Path:
        """The folder or file on this machine, fetched if need be; `name` is the card's.

        Raises ModelLoadError or Refusal for what stays so, else OSError.
        """
        ...

    async def let_go(self, name: str) -> None:
        """Delete what was fetched for a card."""
        ...


class Hosting:
    """`paints`: whether files are needed here. `shared` are the adapters that every model may wear."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        store: CatalogueStore,
        painter: Painter,
        health: Health,
        source: ModelSource,
        kinds: Sequence[Kind],
        shared: Mapping[str, Path],
        pool: Pool,
        clock: Clock,
        every: float,
        drop_file: Callable[[AdapterRecord], Awaitable[None]],
        paints: bool = True,
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._painter = painter
        self._health = health
        self._source = source
        self._kinds = kinds
        self._shared = shared
        self._pool = pool
        self._clock = clock
        self._every = every
        self._paints = paints
        self._drop_file = drop_file
        self._revision = 0
        self._purged = clock.seconds()
        self._pauses = Pauses(clock)
        self._looking: asyncio.Task[bool] | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._coming: dict[str, asyncio.Task[None]] = {}
        self._failed: dict[str, float] = {}  # cards that could not be had → when
        self._left: dict[str, float] = {}  # cards of what was deleted → when that was heard
        self._brings = asyncio.Semaphore(BRINGS_AT_ONCE)

    def begin(self) -> None:
        """Look from now on."""
        self._keeping = asyncio.ensure_future(self._keep())

    async def stop(self) -> None:
        """Look no more."""
        self._pauses.stop()
        running = [task for task in (self._keeping, *self._coming.values()) if task is not None]
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running)

    async def refresh(self) -> bool:
        """Hear all that is recorded by now; whether any of it was new. The records' being away is nothing new."""
        heard = False
        if self._looking is not None:  # it began before whatever the caller wants to hear was recorded
            heard = await asyncio.shield(self._looking)
        if self._looking is None:
            self._looking = asyncio.ensure_future(self._look())
            self._looking.add_done_callback(self._looked)
        return await asyncio.shield(self._looking) or heard

    async def hear_news(self) -> bool:
        """The same for somebody who was told that a model is not here: what is being brought is waited for a little."""
        heard = await self.refresh()
        coming = tuple(self._coming.values())
        if coming:
            await asyncio.wait(coming, timeout=NEWS_WITHIN)
        return heard or bool(coming)

    async def ready(self, name: str) -> bool:
        """Whether this node knows the card, once it has looked for it and has brought it."""
        if name not in self._catalogue and name not in self._coming:
            await self.refresh()
        if coming := self._coming.get(name):
            await asyncio.wait([coming])
        return name in self._catalogue

    def _looked(self, task: asyncio.Task[bool]) -> None:
        if self._looking is task:
            self._looking = None

    async def _look(self) -> bool:
        try:
            changes = await self._store.changes(self._revision)
        except RecordsUnavailable as error:
            log.warning("catalogue.unread", reason=error.reason)
            return False
        for record in changes.records:
            if isinstance(record, AdapterRecord):
                self._take_adapter(record)
            else:
                self._take(record)
        self._revision = changes.revision
        return bool(changes.records)

    def _take_adapter(self, record: AdapterRecord) -> None:
        if record.deleted:
            self._catalogue.drop_adapter(record.id)
        else:
            self._catalogue.put_adapter(record)

    def _take(self, record: ModelRecord) -> None:
        if record.deleted:
            self._catalogue.withdraw(record.id)
        else:
            self._catalogue.put(record)
            for version in record.versions:
                name = record.card_name(version.version)
                wanted = version.state is CheckState.READY and not version.deleted
                if wanted and name not in self._catalogue and name not in self._coming:
                    self._come(record, version, name)
        for name in self._catalogue.leaving:
            self._left.setdefault(name, self._clock.seconds())

    def _come(self, record: ModelRecord, version: VersionRecord, name: str) -> None:
        task = self._coming[name] = asyncio.ensure_future(self._host(record, version, name))

        def done(ended: asyncio.Task[None]) -> None:
            self._coming.pop(name, None)
            if not ended.cancelled() and ended.exception() is not None:
                log.error("model.not_hosted", model=name, exc_info=ended.exception())

        task.add_done_callback(done)

    async def _host(self, record: ModelRecord, version: VersionRecord, name: str) -> None:
        kind = kind_of(self._kinds, record.model_type)
        if kind is None:
            log.warning("model.unknown_kind", model=name, model_type=record.model_type)
            return
        card, problem = self._described(kind.parse(name, version.card), record, version), ""
        if self._paints:
            try:
                card = self._described(await self._brought(kind, version, name), record, version)
            except (ModelLoadError, AdapterError, AtelierError, OSError) as error:
                problem = _told(error)
                self._failed[name] = self._clock.seconds()
                log.error("model.not_here", model=name, reason=str(error))
        now = self._catalogue.record(record.id)
        there = None if now is None else now.version(version.version)
        if now is None or there is None:  # it was deleted meanwhile
            return
        if not problem:
            self._failed.pop(name, None)
            self._painter.add(card)
            log.info("model.offered", model=name)
        self._health.offer(name, problem)
        self._catalogue.offer(now, there, card, problem)

    async def _brought(self, kind: Kind, version: VersionRecord, name: str) -> Card:
        async with self._brings:
            path = await self._source.bring(version.path, name)
            try:
                return await self._pool.run(kind.read, name, path, self._shared)
            except ModelLoadError as error:  # its owner is told of it
                raise error.told_of(version.path, [str(path)]) from error

    def _described(self, card: Card, record: ModelRecord, version: VersionRecord) -> Card:
        return replace(for_hardware(card, version.hardware), description=record.description or card.description)

    # Now and then

    async def _keep(self) -> None:
        while await self._pauses.take(self._every):
            try:
                await self.refresh()
                self._try_again()
                await self._let_go()
                await self._purge()
            except RecordsUnavailable as error:
                log.warning("catalogue.unread", reason=error.reason)
            except OSError as error:
                log.warning("catalogue.files_kept", reason=_told(error))
            except Exception:  # a mistake of ours, or one record that cannot be read, is no reason to hear no more
                log.exception("catalogue.broken")

    def _try_again(self) -> None:
        for name, at in list(self._failed.items()):
            if self._clock.seconds() - at >= AGAIN_AFTER and name not in self._coming:
                del self._failed[name]
                offered = self._catalogue.by_card(name)
                if offered is not None:
                    self._come(offered.record, offered.version, name)

    async def _let_go(self) -> None:
        for name, at in list(self._left.items()):
            if self._clock.seconds() - at < LEAVES_AFTER or await self._store.in_use(name):
                continue
            self._painter.remove(name)
            self._catalogue.forget(name)
            self._health.withdraw(name)
            del self._left[name]
            if self._paints:
                await self._source.let_go(name)
            log.info("model.left", model=name)

    async def _purge(self) -> None:
        """Forget the records of what was deleted long ago, and the files of adapters that no job wears any more."""
        now = self._clock.seconds()
        if now - self._purged < PURGE_EVERY:
            return
        self._purged = now
        for record in await self._store.deleted(before=now - FORGOTTEN_AFTER):
            if isinstance(record, AdapterRecord):
                name = registered_name(record.owner, record.name, record.sha256)
                if await self._store.in_use(name):
                    continue
                if self._catalogue.adapter(record.owner, name) is None:  # the same may have been uploaded anew
                    await self._drop_file(record)
            await self._store.forget([record.id])


def _told(error: Exception) -> str:
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
