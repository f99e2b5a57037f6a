from __future__ import annotations

import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.watermark.pictures import noise, plain, png
from watermark import MetadataError, encode_png, read_metadata
from watermark.metadata import MAX_ENTRY_BYTES
from watermark.png import Chunk, chunks

PICTURE = plain(16, 16)
AWKWARD = ["café", "한국어 프롬프트", "😀👩‍👩‍👧", "line\nline", "  spaces  ", "a" * 100_000, "\u202e\ufeff", "tab\t"]


def with_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG with one more chunk after its header."""
    plain_file = png(PICTURE)
    return plain_file[:33] + Chunk(kind, body).encoded() + plain_file[33:]


@pytest.mark.parametrize("text", AWKWARD)
def test_round_trip(text: str) -> None:
    """What is written is read back, for text of any script and length."""
    assert read_metadata(encode_png(PICTURE, {"job_id": "7", "artist": text})) == {"job_id": "7", "artist": text}


@pytest.mark.parametrize("text", AWKWARD)
def test_pillow_reads_it(text: str) -> None:
    """Other readers see the same entries: Pillow as their witness."""
    with Image.open(BytesIO(encode_png(PICTURE, {"artist": text}))) as image:
        assert isinstance(image, Image.Image)
        assert image.info["artist"] == text


def test_pixels_are_kept() -> None:
    """Metadata and compression change no pixel."""
    picture = noise(33, 17)
    with Image.open(BytesIO(encode_png(picture, {"artist": "홍"}))) as image:
        assert (image.mode, image.tobytes()) == ("RGB", picture.tobytes())


def test_same_input_same_bytes() -> None:
    """A file has no clock in it."""
    assert encode_png(noise(64, 64), {"a": "b"}) == encode_png(noise(64, 64), {"a": "b"})


def test_what_no_png_can_hold_is_replaced() -> None:
    """NUL and lone surrogates become U+FFFD."""
    assert read_metadata(encode_png(PICTURE, {"artist": "a\0b\ud800c"})) == {"artist": "a\ufffdb\ufffdc"}


def test_empty_entries_are_left_out() -> None:
    """An entry with nothing in it is no entry."""
    assert read_metadata(encode_png(PICTURE, {"artist": "", "seed": "1"})) == {"seed": "1"}


@pytest.mark.parametrize("key", ["", " a", "a ", "a  b", "a" * 80, "a\0", "한", "a\nb"])
def test_impossible_keys(key: str) -> None:
    """A key that the PNG standard forbids is refused."""
    with pytest.raises(MetadataError, match="79"):
        encode_png(PICTURE, {key: "x"})


def test_parameters_for_web_uis() -> None:
    """A picture with a prompt also carries it in the form that Stable Diffusion viewers read."""
    entries = {
        "prompt": "a cat\nin a hat", "negative_prompt": "blurry", "steps": "20", "solver": "dpmpp_2m",
        "guidance_scale": "7.5", "seed": "42", "size": "512x512", "model": "sd15", "job_id": "1",
    }  # fmt: skip
    assert read_metadata(encode_png(PICTURE, entries))["parameters"] == (
        "a cat\nin a hat\nNegative prompt: blurry\n"
        "Steps: 20, Sampler: dpmpp_2m, CFG scale: 7.5, Seed: 42, Size: 512x512, Model: sd15"
    )
    assert read_metadata(encode_png(PICTURE, {"prompt": "cat"}))["parameters"] == "cat"


def test_given_parameters_are_kept() -> None:
    """Who writes that entry himself has it as he wrote it."""
    assert read_metadata(encode_png(PICTURE, {"prompt": "cat", "parameters": "mine"}))["parameters"] == "mine"


def test_entries_of_other_writers() -> None:
    """Latin-1, compressed and international entries are read, before and after the pixels."""
    assert read_metadata(with_chunk(b"tEXt", b"k\0caf\xe9")) == {"k": "café"}
    assert read_metadata(with_chunk(b"zTXt", b"k\0\0" + zlib.compress(b"caf\xe9"))) == {"k": "café"}
    assert read_metadata(with_chunk(b"iTXt", b"k\0\1\0ko\0x\0" + zlib.compress("홍".encode()))) == {"k": "홍"}
    late = png(PICTURE)[:-12] + Chunk(b"tEXt", b"k\0v").encoded() + png(PICTURE)[-12:]
    assert read_metadata(late) == {"k": "v"}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"tEXt", b"no separator"),
        (b"zTXt", b"k\0\0garbage"),
        (b"zTXt", b"k\0\0" + zlib.compress(bytes(MAX_ENTRY_BYTES + 1))),
        (b"iTXt", b"k\0\0\0short"),
        (b"iTXt", b"k\0\0\0\0\0\xff\xfe"),
    ],
)
def test_unreadable_entries_are_left_out(kind: bytes, body: bytes) -> None:
    """A broken or exploding entry harms no other."""
    assert read_metadata(with_chunk(kind, body)) == {}


def test_damaged_files_are_refused() -> None:
    """A file cut anywhere is refused, never half read."""
    whole = encode_png(PICTURE, {"artist": "홍"})
    for length in range(len(whole)):
        with pytest.raises(MetadataError):
            read_metadata(whole[:length])


def test_ascii_entries_use_the_chunk_every_reader_knows() -> None:
    """ASCII goes into tEXt, other text into iTXt, all before the pixels."""
    kinds = [chunk.type for chunk in chunks(encode_png(PICTURE, {"a": "x", "b": "é"}))]
    assert kinds[:4] == [b"IHDR", b"tEXt", b"iTXt", b"IDAT"]
    assert struct.unpack(">II", encode_png(PICTURE, {})[16:24]) == (16, 16)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(["prompt", "artist", "model"]), st.text(st.characters(), max_size=200)))
def test_no_text_does_harm(entries: dict[str, str]) -> None:
    """Any text is written, and read back but for what no PNG can hold."""
    found = read_metadata(encode_png(PICTURE, entries))
    held = {
        key: "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
        for key, text in entries.items()
    }
    assert {key: found.get(key, "") for key in held} == held
