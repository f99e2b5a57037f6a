"""Stored pictures inside JSON: read, written in base64 and sent piece by piece, so that no answer is in memory as a whole."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.doors.http.pictures import read_piece
from server.events import Artifact
from server.interfaces import ArtifactStore


def base64_size(size: int) -> int:
    """Characters that so many bytes become."""
    return (size + 2) // 3 * 4


async def in_base64(artifacts: ArtifactStore, artifact: Artifact, chunk_bytes: int) -> AsyncIterator[bytes]:
    """A stored picture. Raises Refusal (STORAGE_FAILED)."""
    begin, left_over = 0, b""
    while begin < artifact.size:
        piece = await read_piece(artifacts, artifact, begin, min(chunk_bytes, artifact.size - begin))
        begin += len(piece)
        data = left_over + piece
        whole = len(data) if begin >= artifact.size else len(data) - len(data) % 3
        left_over = data[whole:]
        yield base64.b64encode(data[:whole])


async def filled(parts: Sequence[bytes | Artifact], artifacts: ArtifactStore, chunk_bytes: int) -> AsyncIterator[bytes]:
    """The bytes as they stand, the pictures in base64."""
    for part in parts:
        if isinstance(part, bytes):
            yield part
        else:
            async for piece in in_base64(artifacts, part, chunk_bytes):
                yield piece


def joined(parts: Sequence[bytes | Artifact]) -> list[bytes | Artifact]:
    """The same, with no two bytes beside each other."""
    found: list[bytes | Artifact] = []
    for part in parts:
        if isinstance(part, bytes) and found and isinstance(found[-1], bytes):
            found[-1] += part
        else:
            found.append(part)
    return found


class JsonWithPictures(Response):
    """JSON in parts, with pictures between them. What cannot be read is refused (STORAGE_FAILED), where that shows before
    anything was said; after that, it is the connection's end."""

    media_type = "application/json"

    def __init__(self, parts: Sequence[bytes | Artifact], artifacts: ArtifactStore, chunk_bytes: int) -> None:
        super().__init__()
        sizes = (len(part) if isinstance(part, bytes) else base64_size(part.size) for part in parts)
        self.headers["content-length"] = str(sum(sizes))
        self._pieces = filled(joined(parts), artifacts, chunk_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        said = await anext(self._pieces) + await anext(self._pieces, b"")  # with the first piece of a picture
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": said, "more_body": True})
        async for piece in self._pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
