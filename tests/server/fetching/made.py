"""Adapters as far as their first bytes, and a storage that has them and goes wrong when a test says so."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

from server.interfaces import ObjectChanged, StoredObject


def weights(size: int = 200, seed: int = 0) -> bytes:
    """A safetensors file of so many bytes."""
    header = json.dumps({"__metadata__": {"seed": str(seed)}}).encode()
    start = len(header).to_bytes(8, "little") + header
    assert size >= len(start)
    return start + hashlib.sha256(str(seed).encode()).digest() * (size // 32 + 1)


def made(size: int = 200, seed: int = 0) -> bytes:
    """The same, cut to its size."""
    return weights(size, seed)[:size]


def content_of(path: str) -> bytes:
    """What stands in a file."""
    return Path(path).read_bytes()


def names_in(path: str) -> list[str]:
    """What is in a folder."""
    return sorted(entry.name for entry in Path(path).iterdir())


def files_in(path: str) -> list[str]:
    """The files in a folder and its folders."""
    return sorted(entry.relative_to(path).as_posix() for entry in Path(path).rglob("*") if entry.is_file())


class FakeStorage:
    """An `ObjectSource`. `faults` are raised one after the other, after as many bytes of a piece as they say."""

    def __init__(self, **objects: bytes) -> None:
        self.objects: dict[str, bytes] = dict(objects)
        self.stats: list[str] = []
        self.streams: list[tuple[str, int]] = []  # each key that was streamed, and from where on
        self.faults: list[tuple[int, Exception]] = []
        self.away: Exception | None = None
        self.gate: asyncio.Event | None = None
        self.gate_at = 0  # the byte that is held back until the gate is open
        self.piece = 64
        self.refuses_missing = False  # as S3 does for who may not list

    async def stat(self, key: str) -> StoredObject:
        """By its content."""
        self.stats.append(key)
        if self.away is not None:
            raise self.away
        if key not in self.objects:
            raise PermissionError("refused") if self.refuses_missing else FileNotFoundError(key)
        return StoredObject(len(self.objects[key]), self._etag(key))

    async def pieces(self, key: str, offset: int, etag: str) -> AsyncIterator[bytes]:
        """In small pieces."""
        if self.gate is not None and not self.gate_at:
            await self.gate.wait()
        if self.away is not None:
            raise self.away
        if key not in self.objects:
            raise FileNotFoundError(key)
        if etag and etag != self._etag(key):
            raise ObjectChanged(key)
        self.streams.append((key, offset))
        fault = self.faults.pop(0) if self.faults else None
        data = self.objects[key]
        while offset < len(data):
            if fault is not None and fault[0] <= 0:
                raise fault[1]
            if self.gate is not None and offset >= self.gate_at > 0:
                await self.gate.wait()
            piece = data[offset : offset + (min(self.piece, fault[0]) if fault else self.piece)]
            if fault is not None:
                fault = (fault[0] - len(piece), fault[1])
            offset += len(piece)
            yield piece
        if fault is not None:
            raise fault[1]

    def _etag(self, key: str) -> str:
        return hashlib.md5(self.objects[key]).hexdigest()
