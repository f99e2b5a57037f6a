"""Which adapters are in the slots of one model, who wears them, and the thread that brings those that are not there.

Plain Python. A *slot* is room for `SLOT_RANK` ranks of one adapter in every layer of the model; an adapter of rank r takes
⌈r / SLOT_RANK⌉ of them. What is in the slots is known by its content: two names of one content share them, and a file that
has changed is another adapter, while the old one stays for as long as somebody wears it.

A request asks for all it wears at once (`Residents.wear`). If that is in the slots it is held there from this moment on,
else the request stands in line. One thread serves the line, a request at a time: it reads what is missing, and lets go of
what was least recently used and is held by nobody. Where all slots are held it ends; the next request that lets go of some
starts it again. Only the first in line ever holds some adapters while it waits for others, and whoever else holds any is
being painted: so the waiting ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ai.failures import as_engine_error
from ai.loading import Aside, at_once
from ai.types import AdapterError, AdapterUse, EngineError

if TYPE_CHECKING:
    from ai.adapters.adapter import Adapter

log = logging.getLogger(__name__)

# The smallest rank that matrix units work at without waste; most adapters have 4 to 32.
SLOT_RANK = 8
# Files that were found bad are not read again; more of them than cards have are those that users named.
REFUSALS_KEPT = 1000
NO_FILES: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True, eq=False)
class Resident:
    """An adapter in the slots: `layers` are those it changes, by the model's names."""

    content_hash: str
    slots: tuple[int, ...]
    layers: frozenset[str]


class Worn(NamedTuple):
    """One adapter of a picture, in its slots, and how strongly it acts."""

    resident: Resident
    scale: float


def acting_on(network: str, worn: Sequence[Worn]) -> Hashable:
    """What tells two ways of wearing adapters apart for one network ("unet", "text_encoder"): contents and scales."""
    prefix = f"{network}."
    return tuple(
        (resident.content_hash, scale)
        for resident, scale in worn
        if any(layer.startswith(prefix) for layer in resident.layers)
    )


class Slots(Protocol):
    """Where a model keeps adapters (`ai.adapters.stacks.AdapterStacks`). Called on the thread that serves the line."""

    @property
    def count(self) -> int:
        """How many slots there are, numbered from 1."""
        ...

    @property
    def total_bytes(self) -> int:
        """What they take at present, empty ones too."""
        ...

    def read(self, path: Path) -> Adapter:
        """An adapter's files, checked against the model. Raises AdapterError."""
        ...

    def write(self, slots: Sequence[int], adapter: Adapter) -> None:
        """Put an adapter into slots that nobody wears."""
        ...

    def shrink(self, count: int) -> None:
        """Let go of the memory of all slots but the first so many. On the loop's thread, while nothing is written."""
        ...


Done = Callable[["Outfit", EngineError | None], None]
"""Told, on the thread that serves the line, that an outfit has come, or why it has not."""


@dataclass(slots=True, eq=False)
class Outfit:
    """What one request wears. `worn` is complete when `ready`; it is held until `release`."""

    residents: Residents
    uses: tuple[AdapterUse, ...]
    done: Done
    files: Mapping[str, str]  # of adapters that were fetched for this request alone, before the card's
    worn: list[Worn] = field(default_factory=list)
    read: dict[str, tuple[object, Adapter]] = field(default_factory=dict)  # by name, until there is room for it
    ready: bool = False
    released: bool = False

    def release(self) -> None:
        """Let go of it, whether it came or not."""
        self.residents.release(self)


class _NoRoom(Exception):
    """All slots are held at the moment."""


class Residents:
    """The adapters of one model. `paths` are its card's. Any thread may call anything here; `aside` is asked for a thread
    when a line forms."""

    def __init__(self, paths: Mapping[str, Path], slots: Slots, aside: Aside = at_once) -> None:
        self._paths = paths
        self._slots = slots
        self._aside = aside
        self._lock = threading.Lock()  # guards all that follows
        self._free = list(range(slots.count, 0, -1))
        self._residents: OrderedDict[str, Resident] = OrderedDict()  # by content, the most recently used last
        self._holders: dict[str, int] = {}  # by content; who is not in here is held by nobody
        self._read_paths: dict[Path, tuple[object, str]] = {}  # the file's stamp when it was read, and the content
        self._refused: OrderedDict[Path, tuple[object, str]] = OrderedDict()  # the file's stamp, and why
        self._line: deque[Outfit] = deque()
        self._serving = False
        self._starved = False  # the first in line waits for slots; whoever comes now stands behind it
        self.hits = 0  # adapters that were there when they were asked for
        self.loads = 0  # that had to be read
        self.evictions = 0  # that were taken out of their slots

    @property
    def contents(self) -> tuple[str, ...]:
        """The hashes of the adapters in the slots, the least recently used first."""
        with self._lock:
            return tuple(self._residents)

    @property
    def count(self) -> int:
        """How many adapters are in the slots."""
        return len(self._residents)

    def wear(self, uses: Iterable[AdapterUse], done: Done, files: Mapping[str, str] = NO_FILES) -> Outfit:
        """Hold these adapters: at once (the outfit is `ready`), or when its turn has come; then `done` is called. It is
        not called for an outfit that was released before. `files` are of names that the card may not know."""
        outfit = Outfit(self, tuple(uses), done, files)
        with self._lock:
            if not self._starved and self._hold_all(outfit):
                return outfit
            self._line.append(outfit)
        self._start_serving()
        return outfit

    def release(self, outfit: Outfit) -> None:
        """As `Outfit.release`."""
        with self._lock:
            outfit.released = True
            self._let_go(outfit)
            self._starved = False
        self._start_serving()

    def drop_idle(self) -> None:
        """Take out every adapter that nobody holds, and give back the memory of the slots behind the last that is used.

        Not while an adapter is being brought: what is idle then may be about to be held.
        """
        with self._lock:
            if self._serving:
                return
            for content_hash in [content for content in self._residents if content not in self._holders]:
                self._evict(content_hash)
            self._free.sort(reverse=True)  # so that the lowest are used first
            used = set(range(1, self._slots.count + 1)) - set(self._free)
            self._slots.shrink(max(used, default=0))

    # What is there. With the lock held.

    def _hold_all(self, outfit: Outfit) -> bool:
        found = [self._find(self._path(outfit, use)) for use in outfit.uses]
        residents = [resident for resident in found if resident is not None]
        if len(residents) < len(found):
            return False
        for use, resident in zip(outfit.uses, residents, strict=True):
            self._hold(outfit, use, resident)
        self.hits += len(found)
        outfit.ready = True
        return True

    def _path(self, outfit: Outfit, use: AdapterUse) -> Path:
        fetched = outfit.files.get(use.name)
        return self._paths[use.name] if fetched is None else Path(fetched)

    def _find(self, path: Path) -> Resident | None:
        """The adapter that a file is at the moment, if it is in the slots."""
        stamp, content_hash = self._read_paths.get(path, (None, ""))
        if content_hash not in self._residents or stamp != _stamp(path):
            return None
        return self._residents[content_hash]

    def _hold(self, outfit: Outfit, use: AdapterUse, resident: Resident) -> None:
        self._residents.move_to_end(resident.content_hash)
        self._holders[resident.content_hash] = self._holders.get(resident.content_hash, 0) + 1
        outfit.worn.append(Worn(resident, use.scale))

    def _let_go(self, outfit: Outfit) -> None:
        for resident, _ in outfit.worn:
            self._residents.move_to_end(resident.content_hash)
            self._holders[resident.content_hash] -= 1
            if not self._holders[resident.content_hash]:
                del self._holders[resident.content_hash]
        outfit.worn.clear()

    def _evict(self, content_hash: str) -> None:
        self.evictions += 1
        self._free += self._residents.pop(content_hash).slots
        for path in [path for path, (_, content) in self._read_paths.items() if content == content_hash]:
            del self._read_paths[path]

    # The line. On its thread, with the lock held only for as long as a look takes.

    def _start_serving(self) -> None:
        with self._lock:
            start = bool(self._line) and not self._serving and not self._starved
            self._serving = self._serving or start
        if start:
            self._aside(self._serve)

    def _serve(self) -> None:
        while (outfit := self._next()) is not None:
            try:
                for use in outfit.uses[len(outfit.worn) :]:
                    if not outfit.released:
                        self._bring(outfit, use)
            except _NoRoom:
                continue
            except Exception as problem:
                if not isinstance(problem, EngineError):
                    log.exception("bringing an adapter failed")
                self._settle(outfit, as_engine_error(problem))
            else:
                self._settle(outfit, None)

    def _settle(self, outfit: Outfit, error: EngineError | None) -> None:
        with self._lock:
            self._line.popleft()
            outfit.ready = error is None and not outfit.released
            if not outfit.ready:
                self._let_go(outfit)
            gone = outfit.released
        try:
            if not gone:
                outfit.done(outfit, error)
        except Exception:
            log.exception("nobody could be told of an adapter")

    def _next(self) -> Outfit | None:
        with self._lock:
            while self._line and self._line[0].released:
                self._line.popleft()
            self._serving = bool(self._line) and not self._starved
            return self._line[0] if self._serving else None

    def _bring(self, outfit: Outfit, use: AdapterUse) -> None:
        """Hold one adapter for an outfit, after reading it if it is not there."""
        path = self._path(outfit, use)
        with self._lock:
            resident = self._find(path)
            if resident is not None:
                self.hits += 1
                self._hold(outfit, use, resident)
                return
        began = time.monotonic()
        if use.name not in outfit.read:
            outfit.read[use.name] = self._read(use.shown, path)
        stamp, adapter = outfit.read[use.name]
        with self._lock:
            if outfit.released:
                return
            self._read_paths[path] = (stamp, adapter.content_hash)
            if adapter.content_hash in self._residents:  # under another name, or the file was written anew as it was
                self._hold(outfit, use, self._residents[adapter.content_hash])
                return
            slots = self._find_room(outfit, use.shown, adapter.rank)
            self.loads += 1
        try:
            self._slots.write(slots, adapter)
        except BaseException:
            with self._lock:
                self._free += slots
            raise
        with self._lock:
            resident = Resident(adapter.content_hash, tuple(slots), frozenset(adapter.layers))
            self._residents[adapter.content_hash] = resident
            self._hold(outfit, use, resident)
        del outfit.read[use.name]
        log.info(
            "adapter %s: %d layers, rank %d, %d bytes, in %.3f s",
            use.shown, len(adapter.layers), adapter.rank, adapter.total_bytes, time.monotonic() - began,
        )  # fmt: skip

    def _read(self, name: str, path: Path) -> tuple[object, Adapter]:
        stamp = _stamp(path)
        if path in self._refused and self._refused[path][0] == stamp:
            raise AdapterError(self._refused[path][1])
        try:
            adapter = self._slots.read(path)
        except AdapterError as error:
            reason = f"adapter {name}: {error}"
            self._refused[path] = (stamp, reason)
            if len(self._refused) > REFUSALS_KEPT:
                self._refused.popitem(last=False)
            raise AdapterError(reason) from error
        self._refused.pop(path, None)
        return stamp, adapter

    def _find_room(self, outfit: Outfit, name: str, rank: int) -> list[int]:
        """Slots for an adapter: free ones, else those of the least recently used that nobody holds. Raises _NoRoom."""
        wanted = -(-rank // SLOT_RANK)
        together = wanted + sum(len(slots) for slots in {worn.resident.slots for worn in outfit.worn})
        if together > self._slots.count:
            raise AdapterError(
                f"adapters: with {name} (rank {rank}) they need {together} slots of rank {SLOT_RANK}; "
                f"there are {self._slots.count} (adapter_slots)"
            )
        for content_hash in list(self._residents):
            if len(self._free) < wanted and content_hash not in self._holders:
                self._evict(content_hash)
        self._starved = len(self._free) < wanted
        if self._starved:
            raise _NoRoom
        return [self._free.pop() for _ in range(wanted)]


def _stamp(path: Path) -> object:
    """What changes when the adapter's files do."""
    files: Iterable[Path] = sorted(path.rglob("*")) if path.is_dir() else [path]
    try:
        return [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    except OSError:
        return None
