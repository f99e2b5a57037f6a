"""Pictures in a folder of this machine. No link is followed below that folder."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from server.interfaces import ObjectChanged, Pool, StoredObject
from server.object_keys import key_parts

PIECE = 1 << 20  # bytes at a time of what is streamed


class LocalArtifacts:
    """An `ArtifactStore` and `ObjectSource` under `root`. With `base_url`, something else serves that folder there."""

    def __init__(self, root: Path, pool: Pool, base_url: str = "") -> None:
        self._root = root.absolute()
        self._pool = pool
        self._base_url = base_url.rstrip("/")

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Store a picture, whole or not at all; an older one under the same key is replaced."""
        await self._pool.run(_write, self._root, key_parts(key), data)

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""
        return await self._pool.run(_read, self._root, key_parts(key), offset, size, "")

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
def _folder(root: Path, parts: list[str], *, make: bool = False) -> Iterator[int]:
    """The folder of a key, opened step by step, so that nobody can put a link in the way."""
    if make:
        root.mkdir(parents=True, exist_ok=True)
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for part in parts[:-1]:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=handle)
                    os.fsync(handle)  # or the new folder, and what is about to be put in it, may be gone with the power
            inner = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=handle)
            os.close(handle)
            handle = inner
        yield handle
    finally:
        os.close(handle)


def _write(root: Path, parts: list[str], data: bytes) -> None:
    """Write beside the file and rename: a reader, or a crash, sees the old file or the new one."""
    with _folder(root, parts, make=True) as folder:
        name = f".writing-{os.urandom(8).hex()}"
        handle = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=folder)
        try:
            os.fchmod(handle, 0o644)  # something else may serve the folder, as another user
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, parts[-1], src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            os.unlink(name, dir_fd=folder)
            raise
        os.fsync(folder)  # a rename lasts when its folder is on the disk


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
