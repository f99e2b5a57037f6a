"""One file's way to this machine's disk: gone on with after a fault, refused where it is too large or no safetensors file.

How much of it has come is noted beside it every now and then, with its hash: the next try, perhaps of the server's next life,
goes on from there if that is what still stands in the file.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import structlog

from server.clock import Pauses
from server.errors import Code, JobFailure
from server.fetching.cache import NOTE, CachedFile
from server.fetching.origins import RemoteFile
from server.interfaces import ObjectChanged, Pool

log = structlog.get_logger("atelier.adapters")

PAUSES = (0.5, 2.0, 5.0)  # seconds after a fault, before going on from where it was
MAX_CONFIG_BYTES = 1_000_000  # an adapter_config.json has one or two thousand
MAX_HEADER_BYTES = 100_000_000  # safetensors' own limit
NOTE_EVERY = 16 << 20  # bytes: as much is fetched again after a kill -9, and each note waits for the disk
_PIECE = 1 << 20  # bytes read at a time, to hash what is there
_HEADER = 9  # bytes: the JSON header's length, little-endian, and the { that it begins with
_PICKLED = (b"\x80", b"PK\x03\x04")  # pickle's first opcode, and the zip that torch.save writes


@dataclass(slots=True)
class Allowance:
    """Bytes that may still come, of an adapter's `limit`."""

    limit: int
    left: int = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.limit

    def spend(self, size: int) -> None:
        """Raises JobFailure (ADAPTER_INVALID) for one byte too many."""
        self.left -= size
        if self.left < 0:
            raise too_large(self.limit)


def too_large(limit: int, size: int | None = None) -> JobFailure:
    """For an adapter that is larger than any may be."""
    has = f"has {size:,} bytes" if size is not None else "is too large"
    return JobFailure(Code.ADAPTER_INVALID, f"the adapter {has}; one may have {limit:,} (MAX_ADAPTER_BYTES)")


async def download(file: RemoteFile, folder: Path, allowance: Allowance, pool: Pool, pauses: Pauses) -> CachedFile:
    """Bring a file into a folder, waited for by the disk. Raises JobFailure, ObjectChanged, OSError."""
    target = await pool.run(_Target, folder / file.name, file.size)
    head, faults = target.head, 0
    try:
        allowance.spend(target.size)
        while file.size is None or target.size < file.size:
            try:
                async with aclosing(cast(Any, file.pieces(target.size))) as pieces:
                    async for piece in pieces:
                        allowance.spend(len(piece))
                        if len(head) < _HEADER:
                            head += piece[:_HEADER]
                            check_head(file, head)
                        await pool.run(target.write, piece)
                if file.size is not None and target.size != file.size:
                    raise OSError(f"{file.name}: ended after {target.size} of {file.size} bytes")
                break
            except ObjectChanged:
                raise
            except OSError as error:
                if faults == len(PAUSES) or not await pauses.take(PAUSES[faults]):
                    raise
                faults += 1
                log.warning("adapter.resumed", file=file.name, at=target.size, reason=error.strerror or str(error))
        if len(head) < _HEADER and not file.name.endswith(".json"):
            raise JobFailure(Code.ADAPTER_INVALID, f"{file.name} is no safetensors file: it has {target.size} bytes")
    finally:
        await pool.run(target.close)
    return CachedFile(file.name, target.size, target.sha256)


def check_head(file: RemoteFile, head: bytes) -> None:
    """Refuse what cannot be a safetensors file by its first bytes, before the rest has come. Raises JobFailure."""
    if file.name.endswith(".json") or len(head) < _HEADER:
        return
    length = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and 2 <= length <= min(MAX_HEADER_BYTES, file.size or MAX_HEADER_BYTES):
        return
    if any(head.startswith(mark) for mark in _PICKLED):
        raise JobFailure(Code.ADAPTER_INVALID, f"{file.name} is a pickle, which can run code; only safetensors is read")
    raise JobFailure(Code.ADAPTER_INVALID, f"{file.name} is no safetensors file: it does not begin as one")


class _Target:
    """A file that is being written, from where its note says that it was. Its methods run on a pool's threads, one at a time."""

    def __init__(self, path: Path, whole_size: int | None) -> None:
        path.parent.mkdir(exist_ok=True)
        self._note_path = path.with_name(f".{path.name}{NOTE}")
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644), "r+b")
        self._digest = hashlib.sha256()
        self.size = 0
        self.head = b""
        if whole_size is not None:  # or nobody could tell when there is no more to come
            self._go_on(whole_size)
        self._file.seek(self.size)
        self._file.truncate()
        self._noted = self.size

    def _go_on(self, whole_size: int) -> None:
        try:
            noted = json.loads(self._note_path.read_bytes()[:1000])
            size, sha256 = int(noted["size"]), str(noted["sha256"])
        except (OSError, ValueError, KeyError, TypeError):
            return
        digest, left, head = hashlib.sha256(), size, b""
        while left > 0 and (piece := self._file.read(min(left, _PIECE))):
            digest.update(piece)
            head = head or piece[:_HEADER]
            left -= len(piece)
        if left == 0 and size <= whole_size and digest.hexdigest() == sha256:
            self._digest, self.size, self.head = digest, size, head

    def write(self, piece: bytes) -> None:
        """Append."""
        self._file.write(piece)
        self._digest.update(piece)
        self.size += len(piece)
        if self.size - self._noted >= NOTE_EVERY:
            self._note()

    def close(self) -> None:
        """To the disk, and done for now."""
        try:
            if self.size > self._noted:
                self._note()
        finally:
            self._file.close()

    def _note(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        new = self._note_path.with_suffix(".new")
        new.write_text(json.dumps({"size": self.size, "sha256": self.sha256}))
        new.replace(self._note_path)
        self._noted = self.size

    @property
    def sha256(self) -> str:
        """Of what was written."""
        return self._digest.hexdigest()
