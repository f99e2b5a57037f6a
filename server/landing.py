"""Where a large upload lands: a file of this machine, written piece by piece on threads, gone when nobody needs it any more."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from server.errors import Code, Refusal
from server.interfaces import Pool

AT_ONCE = 4  # uploads; each may take as much of the disk as one may have
GATHERED = 1 << 20  # bytes written at a time


@dataclass(slots=True, eq=False)
class Landed:
    """A file on its way. `size` and `sha256` (hex) are of what has come."""

    path: Path
    _file: BinaryIO
    _pool: Pool
    _limit: int
    _waiting: bytearray = field(default_factory=bytearray)
    _digest: Any = field(default_factory=hashlib.sha256)
    size: int = 0

    async def write(self, piece: bytes) -> None:
        """More of it. Raises Refusal (FRAME_TOO_LARGE) for one byte too many, OSError."""
        self.size += len(piece)
        if self.size > self._limit:
            text = f"the file has more than {self._limit} bytes, which is the limit"
            raise Refusal(Code.FRAME_TOO_LARGE, text, field="file", limit=f"at most {self._limit} bytes")
        self._waiting += piece
        if len(self._waiting) >= GATHERED:
            await self._flush()

    async def done(self) -> None:
        """Nothing more comes: it can be read."""
        await self._flush()
        await self._pool.run(self._file.flush)

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return str(self._digest.hexdigest())

    async def _flush(self) -> None:
        data, self._waiting = bytes(self._waiting), bytearray()
        await self._pool.run(self._write, data)

    def _write(self, data: bytes) -> None:
        self._digest.update(data)
        self._file.write(data)


class Landing:
    """At most so many uploads at a time, of `limit` bytes each, in `folder`, which is this server's alone."""

    def __init__(self, folder: Path, pool: Pool, limit: int) -> None:
        self._folder = folder.absolute()
        self._pool = pool
        self.limit = limit
        self._places = asyncio.Semaphore(AT_ONCE)

    @asynccontextmanager
    async def file(self) -> AsyncIterator[Landed]:
        """A new one, deleted in the end. Raises Refusal (RESOURCE_EXHAUSTED), OSError."""
        if self._places.locked():
            text = f"{AT_ONCE} uploads are under way"
            raise Refusal(Code.RESOURCE_EXHAUSTED, text, retry_after_seconds=5.0)
        async with self._places:
            path = self._folder / f"{os.urandom(16).hex()}.safetensors"
            file = await self._pool.run(_opened, path)
            try:
                yield Landed(path, file, self._pool, self.limit)
            finally:
                await asyncio.shield(asyncio.ensure_future(self._pool.run(_gone, path, file)))

    async def clear(self) -> None:
        """Delete what an earlier life has left."""
        await self._pool.run(_clear, self._folder)


def _opened(path: Path) -> BinaryIO:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("xb")


def _gone(path: Path, file: BinaryIO) -> None:
    file.close()
    with suppress(OSError):
        path.unlink()


def _clear(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        with suppress(OSError):
            path.unlink()
