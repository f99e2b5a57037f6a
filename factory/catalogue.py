"""Settings → what users may register: the catalogue, what keeps it in step with the records, who takes models and adapters."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from ai.adapters.folder import find_adapters
from ai.cards import Card, ModelCard
from config import Settings
from factory.joining import joined
from factory.records import Records, node_folder
from factory.storage import Storage
from server.catalogue.catalogue import Catalogue
from server.catalogue.hosting import Hosting
from server.catalogue.kinds import KINDS, with_solver
from server.catalogue.places import PlaceRules
from server.catalogue.registering import Bounds, Registrar
from server.catalogue.uploading import Fitted, Uploads
from server.clock import Clock
from server.database.catalogue import SqlCatalogue
from server.fetching.models import ModelFiles
from server.handlers.catalogue import CatalogueHandlers
from server.health import Health
from server.interfaces import Painter
from server.landing import Landing
from server.pools import ThreadedPool

_ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}


class Models:
    """`catalogue` is what there is, `handlers` carry out what is asked of it."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        cards: Sequence[Card],
        records: Records,
        storage: Storage,
        painter: Painter,
        health: Health,
    ) -> None:
        clock = cast(Clock, reactor)
        self._settings = settings
        self._reactor = reactor
        self._painter = painter
        self._pool = ThreadedPool("models", 2)  # one reads whole models, and uploads are not to wait for it
        cache = (settings.model_cache_dir or settings.data_dir / "models").absolute()
        rules = PlaceRules(roots=_roots(settings), keys=settings.model_keys, hub=settings.model_hub)
        store = SqlCatalogue(records.writer, records.reader, clock.seconds)
        kinds = with_solver(KINDS, solver) if (solver := settings.solver()) else KINDS
        shared = {} if settings.adapters_dir is None else find_adapters(settings.adapters_dir)
        self.catalogue = Catalogue(cards)
        source = ModelFiles(
            rules=rules,
            storage=storage.artifacts,
            pool=self._pool,
            root=cache,
            max_bytes=settings.max_model_bytes,
        )
        self.hosting = Hosting(
            catalogue=self.catalogue,
            store=store,
            painter=painter,
            health=health,
            source=source,
            kinds=kinds,
            shared=shared,
            pool=self._pool,
            clock=clock,
            every=settings.catalogue_refresh,
            drop_file=lambda record: self._uploads.drop_file(record),
            paints=settings.role != "gateway",
        )
        self._registrar = Registrar(
            catalogue=self.catalogue,
            hosting=self.hosting,
            store=store,
            source=source,
            kinds=kinds,
            rules=rules,
            bounds=Bounds(models_per_owner=settings.models_per_owner, bytes_of=self._bytes_of, devices=self._devices),
            pool=self._pool,
            clock=clock,
            new_id=_new_id,
        )
        self._uploads = Uploads(
            catalogue=self.catalogue,
            store=store,
            storage=storage.artifacts,
            fit=partial(_fit, max_bytes=settings.max_adapter_bytes, max_rank=settings.max_adapter_rank),
            refresh=self.hosting.refresh,
            pool=self._pool,
            clock=clock,
            most=settings.adapters_per_owner,
            new_id=_new_id,
        )
        self.landing = Landing(node_folder(settings) / "uploads", self._pool, settings.max_adapter_bytes)
        self.handlers = CatalogueHandlers(self.catalogue, self._registrar, self._uploads, health)

    async def open(self) -> None:
        """Hear what there is, before the first job: the records must be open."""
        self._pool.start()
        await self.landing.clear()
        await self.hosting.refresh()

    def begin(self) -> None:
        """Hear what is new from now on."""
        self.hosting.begin()
        if self._settings.role != "worker":  # a worker registers nothing
            self._registrar.resume()

    async def close(self) -> bool:
        """Whether the threads have ended."""
        await self.hosting.stop()
        return await joined(self._reactor, self._pool.stop) if self._pool.started else True

    def _devices(self) -> Sequence[str]:
        if self._settings.role == "gateway":
            return ()
        told = [one.device for one in self._painter.numbers().devices if one.device]
        return told or self._settings.engine_devices()

    def _bytes_of(self, numbers: int) -> tuple[int, int]:
        """In the devices' number format, and the largest device's budget."""
        devices = self._devices()
        auto = "float32" if all(device == "cpu" for device in devices) else "float16"
        item = _ITEM_BYTES[auto if self._settings.dtype == "auto" else self._settings.dtype]
        limits = [one.memory.limit for one in self._painter.numbers().devices]
        return numbers * item, max(limits, default=0) or int(self._settings.memory_limit)


def _fit(path: Path, card: ModelCard, *, max_bytes: int, max_rank: int) -> Fitted:
    from ai.adapters.fitting import fit  # which imports torch: on a thread, when the first adapter is uploaded

    return fit(path, card, max_bytes=max_bytes, max_rank=max_rank)


def _new_id() -> str:
    return secrets.token_hex(8)


def _roots(settings: Settings) -> tuple[Path, ...]:
    """Where registered models may lie; the operator's own links are followed."""
    own = (settings.model_cache_dir,) if settings.model_cache_dir else ()
    return tuple(root.resolve() for root in (*settings.model_roots, *own))
