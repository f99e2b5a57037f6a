"""Settings → where adapters are fetched from, and where they are kept."""

from __future__ import annotations

from typing import Any, cast

from config import Settings, SettingsError
from factory.joining import joined
from factory.storage import Storage
from server.adapter_names import Place, Rules, WebFile
from server.clock import Clock
from server.fetching.adapters import FetchedAdapters
from server.fetching.cache import AdapterCache
from server.fetching.origins import Origin, StorageOrigin
from server.fetching.web import WebOrigin
from server.jobs.fetching import Fetching
from server.outgoing import Outgoing
from server.pools import ThreadedPool

WRITERS = 2  # threads that write and hash what comes
NAMES_AT_ONCE = 4  # that are looked up; one that takes its time holds up no more than its thread


class AdapterFetching:
    """`source` has the adapters, `fetching` brings those of jobs, `cache` keeps them; `outgoing` asks at addresses of users."""

    def __init__(self, settings: Settings, storage: Storage, reactor: Any) -> None:
        clock = cast(Clock, reactor)
        self._reactor = reactor
        self._folder = (settings.adapter_cache_dir or settings.data_dir / "adapters") / settings.process
        self._disk = ThreadedPool("adapters", WRITERS)
        self._names = ThreadedPool("adapter-hosts", NAMES_AT_ONCE)
        rules = Rules(keys=settings.adapter_keys, hosts=settings.adapter_hosts, own=storage.own_addresses)
        self.outgoing = outgoing = Outgoing(reactor, clock, self._names, networks=settings.outgoing_networks)

        def origin(place: Place) -> Origin:
            if isinstance(place, WebFile):
                return WebOrigin(outgoing, place, rules, settings.adapter_timeout)
            return StorageOrigin(storage.artifacts, place)

        self.cache = AdapterCache(self._folder, settings.adapter_cache_bytes, self._disk, clock)
        self.source = FetchedAdapters(
            rules=rules,
            origin=origin,
            cache=self.cache,
            pool=self._disk,
            clock=clock,
            max_bytes=settings.max_adapter_bytes,
            check_seconds=settings.adapter_check_seconds,
        )
        self.fetching = Fetching(self.source, settings.adapters_ahead)

    async def open(self) -> None:
        """Find what was fetched before. Raises SettingsError."""
        self._disk.start()
        self._names.start()
        try:
            await self.cache.open()
        except OSError as error:
            await self.close()
            raise SettingsError(f"ATELIER_ADAPTER_CACHE_DIR: {self._folder}: {error.strerror}") from error

    async def close(self) -> bool:
        """Fetch no more; whether the threads have ended."""
        if not self._disk.started:
            return True
        await self.source.stop()
        return all([await joined(self._reactor, pool.stop) for pool in (self._disk, self._names)])
