"""Puts pictures together from their chunks, and believes none that is not what the server announced. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from proto import atelier_pb2 as pb
from server.events import Artifact

MAX_PICTURE_BYTES = 64 << 20  # a PNG of 4096 × 4096 noise; a server that announces more is not one of ours
MAX_PICTURES = 64  # of one job; the protocol knows four


class BrokenPieces(Exception):
    """Chunks with a gap, or a picture that is not what its artifact says."""


class PictureAssembly:
    """The pictures of one job, as they come in."""

    def __init__(self) -> None:
        self._pictures: dict[int, bytearray] = {}

    def take(self, chunk: pb.Chunk) -> None:
        """Add a piece. Raises BrokenPieces."""
        if chunk.image_index >= MAX_PICTURES or chunk.size > MAX_PICTURE_BYTES:
            raise BrokenPieces(f"picture {chunk.image_index} of {chunk.size} bytes is beyond what a job can have")
        picture = self._pictures.setdefault(chunk.image_index, bytearray())
        end = chunk.offset + len(chunk.data)
        if chunk.offset != len(picture) or end > chunk.size:
            raise BrokenPieces(
                f"picture {chunk.image_index}: bytes {chunk.offset} to {end} of {chunk.size} came after {len(picture)}"
            )
        picture += chunk.data

    def whole(self, artifacts: Sequence[Artifact]) -> tuple[bytes, ...]:
        """The pictures, in the artifacts' order. Raises BrokenPieces if one is not what its artifact says."""
        return tuple(self._checked(artifact) for artifact in artifacts)

    def _checked(self, artifact: Artifact) -> bytes:
        picture = bytes(self._pictures.get(artifact.image_index, b""))
        if len(picture) != artifact.size:
            raise BrokenPieces(f"picture {artifact.image_index}: {len(picture)} of {artifact.size} bytes came")
        if sha256(picture).hexdigest() != artifact.sha256.lower():
            raise BrokenPieces(f"picture {artifact.image_index}: its sha256 is not {artifact.sha256}")
        return picture
