"""Pictures in a folder of this machine. No link is followed below that folder."""

from __future__ import annotations

import errno
import os
import stat
from asyncio import Future, get_running_loop
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from server.futures import Tasks
from server.interfaces import ObjectChanged, Pool, StoredObject
from server.object_keys import key_parts
from server.storage.folders import Folders, Known, NewFile, Parts, put_files

PIECE = 1 << 20  # bytes at a time of what is streamed
GROUPS = 4  # pictures that are put at once, in so many groups: while the disk keeps one, the next is written
MOST_IN_GROUP = 16  # pictures: what is put first waits for the last


class LocalArtifacts:
    """An `ArtifactStore` and `ObjectSource` under `root`. With `base_url`, something else serves that folder there.

    `storing` is the pool for what waits for the disk, where it is another: whoever has something to compute need not wait too.
    """

    def __init__(self, root: Path, pool: Pool, base_url: str = "", *, storing: Pool | None = None) -> None:
        self._root = root.absolute()
        self._pool = pool
        self._storing = storing or pool
        self._base_url = base_url.rstrip("/")
        self._waiting: deque[tuple[NewFile, Future[None]]] = deque()
        self._groups = 0  # under way
        self._kept: dict[Parts, Known] = {}  # folders whose names are on the disk, as far as that is known
        self._tasks = Tasks()

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Store a picture, whole or not at all; an older one under the same key is replaced."""
        file, stored = NewFile(tuple(key_parts(key)), data), get_running_loop().create_future()
        self._waiting.append((file, stored))
        if self._groups < GROUPS:
            self._groups += 1
            self._tasks.start(self._put_all())
        await stored

    async def _put_all(self) -> None:
        """What waits, a group at a time."""
        try:
            while self._waiting:
                group = [self._waiting.popleft() for _ in range(min(MOST_IN_GROUP, len(self._waiting)))]
                await self._put(group)
        finally:
            self._groups -= 1

    async def _put(self, group: list[tuple[NewFile, Future[None]]]) -> None:
        problems: list[Exception | None]
        try:
            problems = [*await self._storing.run(put_files, self._root, [file for file, _ in group], self._kept)]
        except Exception as error:  # the threads have ended: whoever put something hears it
            problems = [error for _ in group]
        for (_, stored), problem in zip(group, problems, strict=True):
            if stored.done():  # nobody waits any more
                continue
            if problem is None:
                stored.set_result(None)
            else:
                stored.set_exception(problem)

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""
        return await self._pool.run(_read, self._root, key_parts(key), offset, size, "")

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file of this machine, in pieces."""
        file = NewFile(tuple(key_parts(key)), source=path)
        (problem,) = await self._storing.run(put_files, self._root, [file], self._kept)
        if problem is not None:
            raise problem

    async def keys(self, folder: str, most: int) -> list[str]:
        """All keys below a folder, in order."""
        return await self._pool.run(_keys, self._root, key_parts(folder), most)

    async def delete(self, key: str) -> None:
        """Remove a picture, and its folder if that was the last."""
        await self._pool.run(_delete, self._root, key_parts(key))

    async def address(self, key: str) -> str:
        """Where whatever serves the folder has the picture; "" where nothing does."""
        key_parts(key)
        return f"{self._base_url}/{quote(key)}" if self._base_url else ""

    async def stat(self, key: str) -> StoredObject:
        """How large a file is, and what tells its content from another's."""
        return await self._pool.run(_stat, self._root, key_parts(key))

    async def pieces(self, key: str, offset: int, etag: str) -> AsyncIterator[bytes]:
        """The file's content from `offset` on."""
        while piece := await self._pool.run(_read, self._root, key_parts(key), offset, PIECE, etag):
            offset += len(piece)
            yield piece


@contextmanager
def _folder(root: Path, parts: list[str]) -> Iterator[int]:
    """The folder of a key."""
    folders = Folders(root)
    try:
        yield folders.handle(tuple(parts[:-1]))
    finally:
        folders.close()


def _keys(root: Path, parts: list[str], most: int) -> list[str]:
    found: list[str] = []
    for folder, inner, files in os.walk(root.joinpath(*parts), followlinks=False):
        inner.sort()
        place = Path(folder)
        plain = (name for name in files if not name.startswith(".") and stat.S_ISREG((place / name).lstat().st_mode))
        found += [(place / name).relative_to(root).as_posix() for name in plain]
        if len(found) >= most:
            break
    return sorted(found)[:most]


def _delete(root: Path, parts: list[str]) -> None:
    with suppress(FileNotFoundError), _folder(root, parts) as folder:
        os.unlink(parts[-1], dir_fd=folder)
    if len(parts) > 1:
        with suppress(OSError), _folder(root, parts[:-1]) as above:  # others are in it, or it was never made
            os.rmdir(parts[-2], dir_fd=above)


def _open(root: Path, parts: list[str]) -> int:
    try:
        with _folder(root, parts) as folder:
            handle = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
        raise FileNotFoundError(errno.ENOENT, "no plain file there; links are not followed", parts[-1]) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise FileNotFoundError(errno.ENOENT, "not a plain file", parts[-1])
    return handle


def _read(root: Path, parts: list[str], offset: int, size: int, etag: str) -> bytes:
    with os.fdopen(_open(root, parts), "rb") as file:
        if etag and _etag(os.fstat(file.fileno())) != etag:
            raise ObjectChanged(f"{'/'.join(parts)}: has changed")
        file.seek(offset)
        return file.read(size)


def _stat(root: Path, parts: list[str]) -> StoredObject:
    handle = _open(root, parts)
    try:
        found = os.fstat(handle)
    finally:
        os.close(handle)
    return StoredObject(size=found.st_size, etag=_etag(found))


def _etag(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns}-{found.st_size}-{found.st_ino}"
