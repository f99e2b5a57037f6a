"""Pictures in a folder of this machine."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from server.interfaces import Pool


class LocalArtifacts:
    """An `ArtifactStore` under `root`. With `base_url`, something else serves that folder there."""

    def __init__(self, root: Path, pool: Pool, base_url: str = "") -> None:
        self._root = root.absolute()
        self._pool = pool
        self._base_url = base_url.rstrip("/")

    async def put(self, key: str, data: bytes, content_type: str) -> str:
        """Store a picture, whole or not at all; an older one under the same key is replaced."""
        await self._pool.run(_write, self._path(key), data)
        return f"{self._base_url}/{quote(key)}" if self._base_url else ""

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""
        return await self._pool.run(_read, self._path(key), offset, size)

    async def delete(self, key: str) -> None:
        """Remove a picture, and its folder if that was the last."""
        await self._pool.run(_delete, self._path(key), self._root)

    def _path(self, key: str) -> Path:
        """The file of a key; keys are our own, so one that leaves the folder is a mistake of ours."""
        parts = key.split("/")
        if any(part in ("", ".", "..") or "\0" in part for part in parts):
            raise ValueError(f"not a storage key: {key!r}")
        return self._root.joinpath(*parts)


def _write(path: Path, data: bytes) -> None:
    """Write beside the file and rename: a reader, or a crash, sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".writing-")
    try:
        os.fchmod(handle, 0o644)  # something else may serve the folder, as another user
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _delete(path: Path, root: Path) -> None:
    path.unlink(missing_ok=True)
    if path.parent != root:
        with suppress(OSError):  # others are in it, or it was never made
            path.parent.rmdir()


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
