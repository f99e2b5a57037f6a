"""Pictures in a bucket: S3, Google Cloud Storage, Azure, or memory, by obstore.

obstore's own messages may hold signed URLs, so they are never passed on: what is told is who refused, with the status and code
that the storage gave.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

from server.interfaces import ObjectChanged, StoredObject
from server.object_keys import key_parts

if TYPE_CHECKING:
    from obstore.store import ObjectStore

PIECE = 1 << 20  # bytes at a time of what is streamed
OURS = "jobs/"  # keys that are never written twice with different contents
FOR_EVER = "max-age=31536000, immutable"
_STATUS = re.compile(r"status code: (\d{3})\b")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")


class StorageError(OSError):
    """The storage did not do what it was asked to. The text names no secret."""


class ObjectArtifacts:
    """An `ArtifactStore` and `ObjectSource` over an obstore store.

    `base_url` is where anyone may fetch the objects; else their addresses are signed and hold for `signed_seconds` (None: they
    have none). `patient` is the same store with time-outs for what is larger than a picture.
    """

    def __init__(
        self,
        store: ObjectStore,
        *,
        patient: ObjectStore | None = None,
        base_url: str = "",
        signed_seconds: float | None = None,
    ) -> None:
        self._store = store
        self._patient = patient or store
        self._base_url = base_url.rstrip("/")
        self._signed_for = None if signed_seconds is None else timedelta(seconds=signed_seconds)

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Store a picture, in one request; an older one under the same key is replaced."""
        key_parts(key)
        who = "public" if self._base_url else "private"
        attributes = {
            "Content-Type": content_type,
            "Cache-Control": f"{who}, {FOR_EVER if key.startswith(OURS) else 'no-cache'}",
            "sha256": sha256,
        }
        try:
            await obstore.put_async(self._store, key, data, attributes=attributes, use_multipart=False)
        except FileNotFoundError:  # there is nothing else that could be missing
            raise StorageError("the storage has no such bucket") from None
        except BaseError as error:
            raise _explained(error) from None

    async def put_file(self, key: str, path: Path) -> None:
        """Store a file of this machine, in several requests where it is large."""
        key_parts(key)
        try:
            await obstore.put_async(self._patient, key, path)
        except FileNotFoundError:
            raise StorageError("the storage has no such bucket") from None
        except BaseError as error:
            raise _explained(error) from None

    async def keys(self, folder: str, most: int) -> list[str]:
        """All keys below a folder, in order."""
        key_parts(folder)
        found: list[str] = []
        try:
            async for entries in obstore.list(self._patient, prefix=f"{folder}/"):
                found += [str(entry["path"]) for entry in entries]
                if len(found) >= most:
                    break
        except FileNotFoundError as error:
            raise _missing(folder, error) from None
        except BaseError as error:
            raise _explained(error) from None
        return sorted(found)[:most]

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset` on."""
        key_parts(key)
        try:
            return bytes(await obstore.get_range_async(self._store, key, start=offset, length=size))
        except FileNotFoundError as error:
            raise _missing(key, error) from None
        except (PermissionDeniedError, UnauthenticatedError) as error:
            raise _explained(error) from None
        except BaseError as error:  # of a range beyond its end an object store says anything
            if offset >= (await self.stat(key)).size:
                return b""
            if "NotPartial" not in str(error) and "416" not in str(error):
                raise _explained(error) from None
        return await self._read_through(key, offset, size)

    async def _read_through(self, key: str, offset: int, size: int) -> bytes:
        """As `read`, from a server that does not answer with a range as it should."""
        read = bytearray()
        async with aclosing(self._stream(self._store, key, 0, "")) as stream:
            async for piece in stream:
                read += piece
                if len(read) >= offset + size:
                    break
        return bytes(read[offset : offset + size])

    async def delete(self, key: str) -> None:
        """Remove a picture; S3 and the others do not agree on what one that is not there is."""
        key_parts(key)
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError as error:
            if _has_no_bucket(error):
                raise _missing(key, error) from None
        except BaseError as error:
            raise _explained(error) from None

    async def address(self, key: str) -> str:
        """Where a picture can be fetched from now on, and for how long depends; "" where it has no address."""
        key_parts(key)
        if self._base_url:
            return f"{self._base_url}/{quote(key)}"
        if self._signed_for is None:
            return ""
        try:
            return str(await obstore.sign_async(cast(Any, self._store), "GET", key, self._signed_for))
        except BaseError as error:
            raise _explained(error) from None

    async def stat(self, key: str) -> StoredObject:
        """How large an object is, and which content it has."""
        key_parts(key)
        try:
            return _stored(await obstore.head_async(self._patient, key))
        except FileNotFoundError as error:
            raise _missing(key, error) from None
        except BaseError as error:
            raise _explained(error) from None

    async def pieces(self, key: str, offset: int, etag: str) -> AsyncIterator[bytes]:
        """The object's content from `offset` on."""
        key_parts(key)
        try:
            async with aclosing(self._stream(self._patient, key, offset, etag)) as stream:
                async for piece in stream:
                    yield piece
                return
        except _NoRanges:
            skip = offset
        async with aclosing(self._stream(self._patient, key, 0, etag)) as stream:
            async for piece in stream:
                yield piece[skip:]
                skip = max(0, skip - len(piece))

    async def _stream(self, store: ObjectStore, key: str, offset: int, etag: str) -> AsyncGenerator[bytes, None]:
        try:
            found = await obstore.get_async(store, key, options={"range": {"offset": offset}} if offset else {})
            if etag and _stored(found.meta).etag != etag:
                raise ObjectChanged(f"{key}: has changed")
            async for piece in found.stream(min_chunk_size=PIECE):
                yield bytes(piece)
        except FileNotFoundError as error:
            raise _missing(key, error) from None
        except BaseError as error:
            if offset and "NotPartial" in str(error):
                raise _NoRanges from None
            raise _explained(error) from None


class _NoRanges(Exception):
    """The server answers a request for a range as if it were for the whole."""


def _stored(meta: Any) -> StoredObject:
    return StoredObject(size=meta["size"], etag=meta["e_tag"] or str(meta["last_modified"]))


def _has_no_bucket(error: Exception) -> bool:
    return any(word in str(error) for word in _NO_BUCKET)


def _missing(key: str, error: FileNotFoundError) -> OSError:
    if _has_no_bucket(error):
        return StorageError("the storage has no such bucket")
    return FileNotFoundError(f"{key}: no such object")


def _explained(error: Exception) -> StorageError:
    """What went wrong, in words that may be shown to anybody."""
    text = str(error)
    told = [found[1] for pattern in (_STATUS, _CODE) if (found := pattern.search(text))]
    answer = f" ({' '.join(told)})" if told else ""
    if isinstance(error, (PermissionDeniedError, UnauthenticatedError)):
        return StorageError(f"the storage refused access{answer}: its credentials or their permissions are wrong")
    if told:
        return StorageError(f"the storage erred{answer}")
    if "TimedOut" in text or "kind: Timeout" in text:
        return StorageError("the storage did not answer in time")
    return StorageError("the storage cannot be reached")
