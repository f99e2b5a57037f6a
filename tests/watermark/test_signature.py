from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from functools import partial

import pytest
from PIL import Image

from tests.watermark.pictures import block_image, png
from watermark import ImageMark, Position, Signature, SignatureError, Size, TextMark
from watermark.png import MAGIC, Chunk, chunks
from watermark.signature import MAX_IMAGE_BYTES


def header(width: int, height: int) -> bytes:
    """The beginning of a PNG that claims this size."""
    return MAGIC + Chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)).encoded()


def refused(make: Callable[[], object]) -> SignatureError:
    """What making it raises."""
    with pytest.raises(SignatureError) as caught:
        make()
    return caught.value


def test_defaults() -> None:
    """A mark alone stands bottom right, a quarter as wide as the picture, at 0.7."""
    signature = Signature(TextMark("Kim"))
    assert (signature.position, signature.size, signature.opacity) == ("bottom-right", "medium", 0.7)
    assert [size.share for size in Size] == [0.15, 0.25, 0.35]


@pytest.mark.parametrize("opacity", [-0.01, 1.01, float("nan"), float("inf"), 10**400, 128, True, "0.7"])
def test_opacity_outside_0_to_1(opacity: float) -> None:
    """An opacity that is no number from 0 to 1 is refused by name and range."""
    error = refused(lambda: Signature(TextMark("Kim"), opacity=opacity))
    assert (error.field, error.limit) == ("opacity", "0 to 1")
    assert "opacity must be 0 to 1" in str(error)


@pytest.mark.parametrize("opacity", [0, 1, 0.5])
def test_opacity_limits_belong(opacity: float) -> None:
    """0 and 1 themselves are opacities."""
    assert Signature(TextMark("Kim"), opacity=opacity).opacity == opacity


def test_artist_too_long() -> None:
    """An artist's name of more than 200 characters is refused."""
    assert refused(lambda: Signature(TextMark("Kim"), artist="a" * 201)).field == "artist"


@pytest.mark.parametrize(
    "text", ["", "   ", "\u200d", "\u202e \u00a0", "a\nb", "a\x00b", "a\u2028b", "a\ud800", "a" * 101]
)
def test_impossible_texts(text: str) -> None:
    """Texts that are empty, invisible, of several lines, with control characters or too long are refused."""
    error = refused(lambda: TextMark(text))
    assert error.field == "text"
    assert error.limit


def test_text_is_composed_and_trimmed() -> None:
    """Decomposed Hangul counts and draws as the syllables it means, and outer space is no part of the text."""
    assert TextMark(" \u1112\u1169\u11bc\n").text == "홍"
    assert TextMark("\u1112\u1169\u11bc" * 100).text == "홍" * 100


def test_names() -> None:
    """Positions and sizes are found by exactly their names, and a wrong name is answered with the right ones."""
    assert [Position.named(name) for name in ("top-left", "bottom-center")] == [
        Position.TOP_LEFT,
        Position.BOTTOM_CENTER,
    ]
    assert Size.named("large") is Size.LARGE
    error = refused(lambda: Position.named("middle"))
    assert (error.field, error.limit.startswith("one of top-left, top-center")) == ("position", True)
    assert refused(lambda: Size.named("Small")).field == "size"


def test_error_survives_pickling() -> None:
    """A SignatureError can cross a process boundary whole."""
    error = pickle.loads(pickle.dumps(SignatureError("text", "short", "too long")))
    assert (error.field, error.limit, str(error)) == ("text", "short", "too long")


def test_image_mark_repr_is_short_and_telling() -> None:
    """An image mark's repr tells its bytes apart without showing them."""
    one, other = ImageMark(png(block_image(9, 9))), ImageMark(png(block_image(9, 8)))
    assert repr(one) == repr(ImageMark(one.png)) != repr(other)
    assert len(repr(one)) < 100


def test_not_a_png() -> None:
    """Other formats are refused, whatever they are."""
    for body in (b"", b"GIF89a", b"\xff\xd8\xff\xe0", b"hello", MAGIC[:5]):
        assert refused(partial(ImageMark, body)).field == "image"


def test_every_truncation_is_refused() -> None:
    """A PNG that lacks its last bytes, however many, is refused."""
    whole = png(block_image(20, 10))
    for length in range(len(whole)):
        assert refused(partial(ImageMark, whole[:length])).limit == "a sound, still PNG"


def test_every_flipped_byte_is_refused() -> None:
    """A PNG with one wrong byte anywhere is refused."""
    whole = png(block_image(20, 10))
    for at in range(len(whole)):
        damaged = whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
        assert refused(partial(ImageMark, damaged)).field == "image"


@pytest.mark.parametrize("size", [(60_000, 60_000), (2**31 - 1, 2**31 - 1), (1025, 1024)])
def test_bomb(size: tuple[int, int]) -> None:
    """An image that claims too many pixels is refused by its header alone."""
    error = refused(lambda: ImageMark(header(*size) + Chunk(b"IDAT", b"").encoded() + Chunk(b"IEND", b"").encoded()))
    assert error.limit == "at most 1048576 pixels"


def test_impossible_headers() -> None:
    """No width, no pixels, no header, an unknown colour type: refused."""
    end = Chunk(b"IEND", b"").encoded()
    odd = Chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 5, 0, 0, 0)).encoded()
    for body in (header(0, 5) + end, header(5, 5) + end, MAGIC + end, MAGIC + odd + end):
        assert refused(partial(ImageMark, body)).field == "image"


def test_animations_are_refused() -> None:
    """An animated PNG is refused, not cut to its first frame."""
    still = png(block_image(4, 4))
    animated = still[:33] + Chunk(b"acTL", bytes(8)).encoded() + still[33:]
    assert "animated" in str(refused(lambda: ImageMark(animated)))


def test_a_second_header_is_refused() -> None:
    """A huge header hidden behind a small one does not reach a decoder."""
    still = png(block_image(4, 4))
    hidden = still[:33] + header(60_000, 60_000)[len(MAGIC) :] + still[33:]
    assert "two headers" in str(refused(partial(ImageMark, hidden)))


def test_too_many_bytes_or_chunks() -> None:
    """Neither size nor a flood of tiny chunks keeps the reader busy."""
    still = png(block_image(4, 4))
    assert refused(lambda: ImageMark(still + bytes(MAX_IMAGE_BYTES))).limit == f"at most {MAX_IMAGE_BYTES} bytes"
    flood = still[:33] + Chunk(b"tEXt", b"").encoded() * 5000 + still[33:]
    assert "4096 chunks" in str(refused(lambda: ImageMark(flood)))


def test_trailing_bytes_are_ignored() -> None:
    """What follows IEND is no part of the image, as in every viewer."""
    still = png(Image.new("RGB", (3, 3)))
    assert [chunk.type for chunk in chunks(still + b"more")] == [chunk.type for chunk in chunks(still)]
    ImageMark(still + b"more")
