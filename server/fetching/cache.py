"""Fetched adapters on this machine's disk: so many bytes at most, what is in use always, the rest by when it was used last.

    ROOT/{name}-{version}/adapter/…     the files; name and version are hashes
    ROOT/{name}-{version}/entry.json    their sizes and SHA-256; its time is that of the last use
    ROOT/.part-{name}-{version}/        what is being fetched, or was begun; a rename makes it an entry, so an entry is whole
    ROOT/.gone-…                        what is being deleted

The functions on the disk run on a pool's threads; everything else on the reactor thread.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from server.clock import Clock, within
from server.interfaces import FetchedAdapter, ObjectChanged, Pool

log = structlog.get_logger("atelier.adapters")

PIECE = 1 << 20  # bytes read at a time to hash them
ROOM_WITHIN = 60.0  # seconds that one waits for adapters in use to be let go
PART_WORTH = 1 << 20  # bytes: less is fetched again as fast as it is looked for
_ENTRY_NAME = re.compile(r"([0-9a-f]{32})-([0-9a-f]{32})")
_INNER_NAME = re.compile(r"(?:[a-z0-9_]+/)?(?!\.\.?$)[^/\0]+")  # of a file, which may lie in a folder of the adapter's
_FOLDER = "adapter"
_ENTRY = "entry.json"
_PART, _GONE = ".part-", ".gone-"
NOTE = ".part"  # what the name of a note ends with that says how much of a file has come; it begins with a dot
_MISSING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})

Key = tuple[str, str]
"""A name's hash, and a version's."""


@dataclass(frozen=True, slots=True)
class CachedFile:
    """What a file must be."""

    name: str
    size: int
    sha256: str


@dataclass(slots=True, eq=False)
class _Entry:
    folder: Path
    files: tuple[CachedFile, ...]
    holders: int = 0
    sound: object = None  # the files' stamps when they were last found to be what they must be

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def path(self) -> Path:
        """What the engine is given: a file that is alone, or the folder."""
        inner = self.folder / _FOLDER
        return inner / self.files[0].name if len(self.files) == 1 and "/" not in self.files[0].name else inner


@dataclass(slots=True, eq=False)
class Draft:
    """An adapter on its way, and the bytes that it was promised."""

    place: Path
    promised: int

    @property
    def folder(self) -> Path:
        """Where its files are written."""
        return self.place / _FOLDER


class Corrupt(OSError):
    """A file is not what it was when it was fetched."""


def hash_of_name(name: str) -> str:
    """A name's folder."""
    return hashlib.sha256(name.encode()).hexdigest()[:32]


class AdapterCache:
    """At most `limit` bytes under `root`, which is this cache's alone."""

    def __init__(self, root: Path, limit: int, pool: Pool, clock: Clock) -> None:
        self._root = root.absolute()
        self.limit = limit
        self._pool = pool
        self._clock = clock
        self._entries: OrderedDict[Key, _Entry] = OrderedDict()  # the most recently used last
        self._parts: OrderedDict[Key, int] = OrderedDict()  # bytes of what broke off; the latest last
        self._used = 0  # bytes: of entries, of parts, and of room that was promised
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def open(self) -> None:
        """Find what an earlier life has left. Raises OSError."""
        entries, parts = await self._pool.run(_scan, self._root)
        self._entries.update(entries)
        self._parts.update(parts)
        self._used += sum(entry.size for _, entry in entries) + sum(size for _, size in parts)
        await self._evict(0)

    @property
    def used(self) -> int:
        """Bytes that are taken, or promised."""
        return self._used

    @property
    def entries(self) -> int:
        """How many adapters are there."""
        return len(self._entries)

    def has(self, key: Key) -> bool:
        """Whether there is such an entry; that it is sound `hold` says."""
        return key in self._entries

    def newest(self, name: str) -> Key | None:
        """The version of a name that was used last."""
        return next((key for key in reversed(self._entries) if key[0] == name), None)

    async def hold(self, key: Key) -> FetchedAdapter | None:
        """The entry, which stays until it is released; None where it is not there, or is not what it must be."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.holders += 1  # while it is looked at, too
        try:
            entry.sound = await self._pool.run(_check, entry.folder, entry.files, entry.sound)
        except Corrupt as error:
            log.warning("adapter.corrupt", entry="-".join(key), reason=str(error))
            self._let_go(entry)
            if self._entries.get(key) is entry:
                await self._drop(key)
            return None
        except BaseException:
            self._let_go(entry)
            raise
        if self._entries.get(key) is entry:
            self._entries.move_to_end(key)
        return FetchedAdapter(str(entry.path), _once(lambda: self._let_go(entry)))

    @asynccontextmanager
    async def room(self, size: int, key: Key) -> AsyncIterator[Draft]:
        """A draft of an entry, with room for `size` bytes; in it is what came before an earlier try broke off. Raises OSError.

        Gone at the end unless it was kept, or broke off for what may be over later: an OSError, a stop.
        """
        draft = Draft(self._root / f"{_PART}{'-'.join(key)}", 0)
        self._used -= self._parts.pop(key, 0)
        breaks_off = False
        try:
            await self._take(size)
            draft.promised = size
            await self._pool.run(_begin, draft.place)
            yield draft
        except ObjectChanged:
            raise
        except (OSError, asyncio.CancelledError):
            breaks_off = True
            raise
        finally:
            self._used -= draft.promised
            await asyncio.shield(self._put_aside(key, draft, breaks_off=breaks_off))
            self._wake()

    async def _put_aside(self, key: Key, draft: Draft, *, breaks_off: bool) -> None:
        """What is left of a draft, if it is worth going on with."""
        left = await self._pool.run(_left_of, draft.place) if breaks_off else 0
        if left >= PART_WORTH:
            self._parts[key] = left
            self._used += left
        else:
            await self._pool.run(shutil.rmtree, draft.place, ignore_errors=True)

    async def keep(self, key: Key, draft: Draft, files: Sequence[CachedFile]) -> None:
        """Make a draft, with these files in it, the entry. Older versions of the name go next. Raises OSError."""
        target = self._root / "-".join(key)
        if key in self._entries:
            await self._drop(key)
        await self._pool.run(_commit, draft.place, target, tuple(files))
        entry = self._entries[key] = _Entry(target, tuple(files))
        self._used += entry.size - draft.promised
        draft.promised = 0
        for older in [one for one in self._entries if one[0] == key[0] and one != key]:
            self._entries.move_to_end(older, last=False)
        for part in [one for one in self._parts if one[0] == key[0]]:
            await self._drop_part(part)

    # Room

    async def _take(self, size: int) -> None:
        if size > self.limit:
            raise OSError(f"{size:,} bytes are more than the whole cache has (ADAPTER_CACHE_BYTES is {self.limit:,})")
        while not await self._evict(size):
            over = asyncio.get_running_loop().create_future()
            self._waiting.append(over)
            try:
                await within(self._clock, ROOM_WITHIN, _wait(over))
            except TimeoutError:
                raise OSError("the cache is full of adapters in use (ADAPTER_CACHE_BYTES)") from None
            finally:
                with suppress(ValueError):
                    self._waiting.remove(over)
        self._used += size

    async def _evict(self, size: int) -> bool:
        """Whether there is room for so many bytes, once what nobody uses has gone as far as it must."""
        while self._used + size > self.limit:
            if self._parts:
                await self._drop_part(next(iter(self._parts)))
                continue
            idle = next((key for key, entry in self._entries.items() if not entry.holders), None)
            if idle is None:
                return False
            await self._drop(idle)
        return True

    async def _drop_part(self, key: Key) -> None:
        self._used -= self._parts.pop(key)
        await self._pool.run(_remove, self._root, self._root / f"{_PART}{'-'.join(key)}")

    async def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key)
        self._used -= entry.size
        await self._pool.run(_remove, self._root, entry.folder)

    def _let_go(self, entry: _Entry) -> None:
        entry.holders -= 1
        if not entry.holders:
            self._wake()

    def _wake(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)


async def _wait(over: asyncio.Future[None]) -> None:
    await over


def _once(work: Callable[[], None]) -> Callable[[], None]:
    done = False

    def call() -> None:
        nonlocal done
        if not done:
            done = True
            work()

    return call


# On the disk


def _scan(root: Path) -> tuple[list[tuple[Key, _Entry]], list[tuple[Key, int]]]:
    """The entries, the least recently used first, and the sizes of parts; what is neither is deleted."""
    root.mkdir(parents=True, exist_ok=True)
    found: list[tuple[float, Key, _Entry]] = []
    parts: list[tuple[Key, int]] = []
    for folder in root.iterdir():
        begun = folder.name.startswith(_PART)
        named = _ENTRY_NAME.fullmatch(folder.name.removeprefix(_PART))
        entry = _read(folder) if named and not begun else None
        if named is not None and entry is not None:
            found.append(((folder / _ENTRY).lstat().st_mtime, (named[1], named[2]), entry))
        elif named is not None and begun and (size := _left_of(folder)) >= PART_WORTH:
            parts.append(((named[1], named[2]), size))
        else:
            _remove(root, folder)
    return [(key, entry) for _, key, entry in sorted(found, key=lambda one: one[0])], parts


def _left_of(place: Path) -> int:
    """Bytes of plain files in what broke off; nothing of what is no draft."""
    try:
        if not _is_folder(place) or not _is_folder(place / _FOLDER):
            return 0
        files = [path.lstat() for path in place.rglob("*")]
    except OSError:
        return 0
    if not all(stat.S_ISREG(file.st_mode) or stat.S_ISDIR(file.st_mode) for file in files):
        return 0  # a link: it is not ours
    return sum(file.st_size for file in files if stat.S_ISREG(file.st_mode))


def _begin(place: Path) -> None:
    """A draft's folders; what lies there and is no part of a draft goes."""
    if not _left_of(place):
        _remove(place.parent, place)
    (place / _FOLDER).mkdir(parents=True, exist_ok=True)


def _is_folder(path: Path) -> bool:
    return stat.S_ISDIR(path.lstat().st_mode)


def _read(folder: Path) -> _Entry | None:
    """What the entry says of itself; None where it is none. The files are looked at when they are used."""
    try:
        if not _is_folder(folder):
            return None
        with os.fdopen(os.open(folder / _ENTRY, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
            told = json.loads(file.read(100_000))
        files = tuple(CachedFile(str(one["name"]), int(one["size"]), str(one["sha256"])) for one in told["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    plain = all(_INNER_NAME.fullmatch(file.name) and file.size >= 0 for file in files)
    return _Entry(folder, files) if files and plain else None


def _check(folder: Path, files: Sequence[CachedFile], sound: object) -> object:
    """The stamps of files that are what they must be. What has its old stamp is not read again. Raises Corrupt, OSError."""
    try:
        if not _is_folder(folder) or not _is_folder(folder / _FOLDER):
            raise Corrupt("not a folder")
        for inner in {file.name.rpartition("/")[0] for file in files} - {""}:
            if not _is_folder(folder / _FOLDER / inner):
                raise Corrupt(f"{inner}: not a folder")
        stamps = [_stamp(folder / _FOLDER / file.name, file) for file in files]
        if stamps != sound:
            for file in files:
                _check_content(folder / _FOLDER / file.name, file)
        os.utime(folder / _ENTRY)
    except OSError as error:
        if error.errno in _MISSING:
            raise Corrupt(error.strerror) from error
        raise
    return stamps


def _stamp(path: Path, file: CachedFile) -> object:
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
        raise Corrupt(f"{file.name}: not a plain file of {file.size} bytes")
    return found.st_ino, found.st_mtime_ns


def _check_content(path: Path, file: CachedFile) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if _sha256(handle) != file.sha256:
            raise Corrupt(f"{file.name}: its content is another than was fetched")
    finally:
        os.close(handle)


def _sha256(handle: int) -> str:
    digest = hashlib.sha256()
    while piece := os.read(handle, PIECE):
        digest.update(piece)
    return digest.hexdigest()


def _commit(draft: Path, target: Path, files: Sequence[CachedFile]) -> None:
    for note in (draft / _FOLDER).rglob(f".*{NOTE}"):
        note.unlink()
    with (draft / _ENTRY).open("x") as file:
        json.dump({"files": [asdict(one) for one in files]}, file)
        file.flush()
        os.fsync(file.fileno())
    _remove(target.parent, target)  # whatever an earlier life may have left there
    draft.rename(target)


def _remove(root: Path, path: Path) -> None:
    """Out of the way at once, then gone; also what is a link or a file."""
    away = root / f"{_GONE}{os.urandom(8).hex()}"
    with suppress(FileNotFoundError):
        path.rename(away)
        if _is_folder(away):
            shutil.rmtree(away, ignore_errors=True)
        else:
            away.unlink()
