"""bot.pictures: chunks become pictures, or an error."""

from __future__ import annotations

from hashlib import sha256

import pytest

from bot.pictures import MAX_PICTURE_BYTES, BrokenPieces, PictureAssembly
from proto import atelier_pb2 as pb
from server.events import Artifact

PICTURE = bytes(range(256)) * 10


def _artifact(picture: bytes, index: int = 0, **changed: object) -> Artifact:
    values: dict[str, object] = {
        "image_index": index,
        "key": "k",
        "url": "",
        "size": len(picture),
        "sha256": sha256(picture).hexdigest(),
        "content_type": "image/png",
        "width": 1,
        "height": 1,
        "seed": 0,
    }
    return Artifact(**{**values, **changed})  # type: ignore[arg-type]


def _chunk(offset: int, data: bytes, index: int = 0, size: int = len(PICTURE)) -> pb.Chunk:
    return pb.Chunk(job_id="j", image_index=index, offset=offset, size=size, data=data)


@pytest.mark.parametrize("piece", [1, 7, 1000, len(PICTURE)])
def test_pieces_of_any_size_make_the_picture(piece: int) -> None:
    """A picture is whole whatever the size of its pieces."""
    assembly = PictureAssembly()
    for offset in range(0, len(PICTURE), piece):
        assembly.take(_chunk(offset, PICTURE[offset : offset + piece]))
    assert assembly.whole([_artifact(PICTURE)]) == (PICTURE,)


def test_pictures_come_in_the_order_of_the_artifacts() -> None:
    """Pieces of several pictures may alternate, and the result follows the artifacts."""
    assembly = PictureAssembly()
    assembly.take(_chunk(0, b"ab", index=1, size=4))
    assembly.take(_chunk(0, b"XY", index=0, size=2))
    assembly.take(_chunk(2, b"cd", index=1, size=4))
    assert assembly.whole([_artifact(b"XY", 0), _artifact(b"abcd", 1)]) == (b"XY", b"abcd")


@pytest.mark.parametrize(
    "chunk",
    [
        _chunk(1, b"a"),
        _chunk(0, PICTURE + b"a"),
        _chunk(0, b"a", index=64),
        _chunk(0, b"a", size=MAX_PICTURE_BYTES + 1),
    ],
    ids=["gap", "more than announced", "too many pictures", "too large"],
)
def test_a_piece_that_does_not_fit_is_broken(chunk: pb.Chunk) -> None:
    """A gap, bytes beyond the announced size, an absurd number or size are refused when they come."""
    with pytest.raises(BrokenPieces):
        PictureAssembly().take(chunk)


@pytest.mark.parametrize("changed", [{"size": 3}, {"sha256": "00"}])
def test_a_picture_that_is_not_as_announced_is_broken(changed: dict[str, object]) -> None:
    """A wrong size or hash is found when the artifacts are known."""
    assembly = PictureAssembly()
    assembly.take(_chunk(0, b"ab", size=2))
    with pytest.raises(BrokenPieces):
        assembly.whole([_artifact(b"ab", 0, **changed)])


def test_a_picture_that_never_came_is_broken() -> None:
    """An artifact without chunks is found."""
    with pytest.raises(BrokenPieces, match="0 of 2 bytes"):
        PictureAssembly().whole([_artifact(b"ab")])
