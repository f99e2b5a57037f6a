"""The `AdapterSource`: a name to a path on this machine."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from server.adapter_names import Place, Rules, read_name
from server.clock import Clock, Pauses
from server.errors import Code, JobFailure, Refusal
from server.fetching.cache import AdapterCache, Key, hash_of_name
from server.fetching.download import MAX_CONFIG_BYTES, Allowance, download, too_large
from server.fetching.origins import Origin, RemoteFile, version_of
from server.interfaces import FetchedAdapter, ObjectChanged, Pool

log = structlog.get_logger("atelier.adapters")

DOWNLOADS = 4  # at a time; each has a piece of a megabyte or so in memory
CHANGES = 3  # while it is fetched; one that changes more often is written all the time
NAMES_KNOWN = 10_000  # whose version is remembered; a few hundred bytes each


@dataclass(slots=True)
class FetchCounts:
    """Since the start: adapters that were on the disk when a job wanted them, or had to be fetched; downloads that came to
    an end, and not; their bytes."""

    hits: int = 0
    misses: int = 0
    downloads: int = 0
    failures: int = 0
    downloaded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Known:
    """Which version a name had at a time."""

    key: Key
    at: float


class FetchedAdapters:
    """Adapters by names that say where they are. `origin` opens a place; an adapter may have `max_bytes`; whether it has
    changed is asked at most every `check_seconds`."""

    def __init__(
        self,
        *,
        rules: Rules,
        origin: Callable[[Place], Origin],
        cache: AdapterCache,
        pool: Pool,
        clock: Clock,
        max_bytes: int,
        check_seconds: float,
    ) -> None:
        self._rules = rules
        self._origin = origin
        self._cache = cache
        self._pool = pool
        self._clock = clock
        self._max_bytes = max_bytes
        self._check_seconds = check_seconds
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._under_way: dict[str, asyncio.Task[Key]] = {}
        self._downloads = asyncio.Semaphore(DOWNLOADS)
        self._pauses = Pauses(clock)
        self.counts = FetchCounts()

    def check(self, name: str) -> None:
        """Raises Refusal (ADAPTER_INVALID) for a name that can never be fetched."""
        read_name(name, self._rules)

    async def fetch(self, name: str) -> FetchedAdapter:
        """The adapter as it is now, held. Whoever asks for one that is being fetched waits with the others. Raises JobFailure."""
        try:
            place = read_name(name, self._rules)
        except Refusal as refusal:
            raise JobFailure(refusal.code, f"{_shown(name)}: {refusal.message}") from None
        try:
            for _ in range(CHANGES):
                key = await self._ensured(name, place)
                held = await self._cache.hold(key)
                if held is not None:
                    return held
                self._known.pop(name, None)  # it was corrupt, or let go just now: once more
        except OSError as error:
            raise JobFailure(Code.STORAGE_FAILED, f"{_shown(name)}: {error.strerror or error}") from error
        raise JobFailure(
            Code.STORAGE_FAILED, f"{_shown(name)}: does not stay in the cache for as long as it is looked at"
        )

    async def stop(self) -> None:
        """Give up what is being fetched."""
        self._pauses.stop()
        for task in tuple(self._under_way.values()):
            task.cancel()
            with suppress(asyncio.CancelledError, OSError, JobFailure):
                await task

    async def _ensured(self, name: str, place: Place) -> Key:
        task = self._under_way.get(name)
        if task is None:
            task = self._under_way[name] = asyncio.ensure_future(self._ensure(name, place))
            task.add_done_callback(lambda _: self._under_way.pop(name, None))
        return await asyncio.shield(task)

    async def _ensure(self, name: str, place: Place) -> Key:
        known = self._known.get(name)
        now = self._clock.seconds()
        if known is not None and now - known.at < self._check_seconds and self._cache.has(known.key):
            self.counts.hits += 1
            return known.key
        origin = self._origin(place)
        for change in range(1, CHANGES + 1):
            try:
                files = await origin.look()
            except OSError as error:
                return self._last_known(name, error)
            key = (hash_of_name(name), version_of(files))
            try:
                if self._cache.has(key):
                    self.counts.hits += 1
                else:
                    self.counts.misses += 1
                    await self._download(name, key, files)
            except ObjectChanged:
                if change == CHANGES:
                    raise
            else:
                self._remember(name, key)
                return key
        raise AssertionError("unreachable")

    def _last_known(self, name: str, error: OSError) -> Key:
        """Who cannot be asked cannot say that the adapter has changed."""
        key = self._cache.newest(hash_of_name(name))
        if key is None:
            raise error
        self.counts.hits += 1
        log.warning("adapter.unchecked", name=_shown(name), reason=error.strerror or str(error))
        return key

    async def _download(self, name: str, key: Key, files: Sequence[RemoteFile]) -> None:
        size = sum(self._max_bytes if file.size is None else file.size for file in files)
        if size > self._max_bytes:
            raise too_large(self._max_bytes, size)
        if any(file.name.endswith(".json") and (file.size or 0) > MAX_CONFIG_BYTES for file in files):
            raise JobFailure(
                Code.ADAPTER_INVALID, f"{_shown(name)}: its configuration has more than {MAX_CONFIG_BYTES:,} bytes"
            )
        began = self._clock.seconds()
        try:
            async with self._cache.room(size, key) as draft, self._downloads:
                allowance = Allowance(self._max_bytes)
                made = [await download(file, draft.folder, allowance, self._pool, self._pauses) for file in files]
                await self._cache.keep(key, draft, made)
        except (OSError, JobFailure):
            self.counts.failures += 1
            raise
        self.counts.downloads += 1
        self.counts.downloaded_bytes += sum(file.size for file in made)
        seconds = round(self._clock.seconds() - began, 3)
        log.info("adapter.fetched", name=_shown(name), size=sum(file.size for file in made), seconds=seconds)

    def _remember(self, name: str, key: Key) -> None:
        self._known[name] = _Known(key, self._clock.seconds())
        self._known.move_to_end(name)
        if len(self._known) > NAMES_KNOWN:
            self._known.popitem(last=False)


def _shown(name: str) -> str:
    return name.partition("?")[0][:200]
