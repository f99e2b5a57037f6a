from __future__ import annotations

import random
import tracemalloc

import pytest

from server.errors import Code, StreamBroken
from server.wire.framing import FrameReader, encode_frame
from tests.wire.pair import pieces

BODIES = [b"", b"a", b"two", b"\x00" * 5, bytes(range(256)), b"x" * 1000]
STREAM = b"".join(map(encode_frame, BODIES))


def frames(reader: FrameReader) -> list[bytes]:
    """Every whole frame that `reader` holds."""
    return list(iter(reader.next_frame, None))


def test_frame_is_big_endian_length_and_body() -> None:
    """A frame is its body behind a 4-byte big-endian length."""
    assert encode_frame(b"abc") == b"\x00\x00\x00\x03abc"
    assert encode_frame(b"") == b"\x00\x00\x00\x00"


@pytest.mark.parametrize("body", BODIES)
def test_one_frame_in_one_read(body: bytes) -> None:
    """A read that is exactly one frame gives its body and leaves nothing."""
    reader = FrameReader(1000)
    reader.feed(encode_frame(body))
    assert frames(reader) == [body]
    assert reader.held_bytes == 0
    assert not reader.begun


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 64, 999, 1004, len(STREAM)])
def test_reads_of_any_size_give_the_same_frames(size: int) -> None:
    """However the stream is cut into reads, the same frames come out."""
    reader = FrameReader(1000)
    found: list[bytes] = []
    for read in pieces(STREAM, size):
        reader.feed(read)
        found += frames(reader)
    assert found == BODIES
    assert reader.held_bytes == 0


def test_random_reads_give_the_same_frames() -> None:
    """Reads of random sizes, some of them not asked for frames at once, lose and reorder nothing."""
    chance = random.Random(1)
    bodies = [chance.randbytes(chance.choice((0, 1, 3, 50, 300))) for _ in range(2000)]
    stream = b"".join(map(encode_frame, bodies))
    reader = FrameReader(300)
    found: list[bytes] = []
    at = 0
    while at < len(stream):
        size = chance.choice((1, 2, 5, 100, 1500))
        reader.feed(stream[at : at + size])
        at += size
        for _ in range(chance.randrange(4)):
            frame = reader.next_frame()
            if frame is not None:
                found.append(frame)
    found += frames(reader)
    assert found == bodies


@pytest.mark.parametrize("tail", [b"\x00", b"\x00\x00\x00\x05", b"\x00\x00\x00\x05half"])
def test_trailing_bytes_wait_for_the_rest(tail: bytes) -> None:
    """Bytes after a whole frame are kept until their own frame is whole, and count as begun."""
    rest = encode_frame(b"halfs")[len(tail) :]
    reader = FrameReader(100)
    reader.feed(encode_frame(b"first") + tail)
    assert frames(reader) == [b"first"]
    assert reader.begun
    assert reader.held_bytes == len(tail)
    reader.feed(rest)
    assert frames(reader) == [b"halfs"]
    assert not reader.begun


def test_whole_frames_not_asked_for_are_not_begun() -> None:
    """A frame that is whole but not yet handed out does not count as begun; a part of the next one does."""
    reader = FrameReader(100)
    begun = []
    for read in (b"", encode_frame(b"one") + encode_frame(b""), b"\x00"):
        reader.feed(read)
        begun.append(reader.begun)
    assert begun == [False, False, True]
    assert frames(reader) == [b"one", b""]
    assert reader.begun


def test_bodies_are_bytes_of_their_own() -> None:
    """A body is bytes, also when it was put together from several reads, and later reads do not change it."""
    reader = FrameReader(100)
    reader.feed(encode_frame(b"first")[:6])
    assert frames(reader) == []
    reader.feed(encode_frame(b"first")[6:] + encode_frame(b"second")[:7])
    first = reader.next_frame()
    reader.feed(encode_frame(b"second")[7:])
    assert type(first) is bytes
    assert [first, *frames(reader)] == [b"first", b"second"]


def test_length_at_the_limit_is_taken_and_one_more_is_not() -> None:
    """The limit itself is allowed; one byte more breaks the stream, naming the limit."""
    reader = FrameReader(8)
    reader.feed(encode_frame(b"12345678"))
    assert frames(reader) == [b"12345678"]
    reader.feed(b"\x00\x00\x00\x09")
    with pytest.raises(StreamBroken, match="at most 8 bytes, not 9") as broken:
        reader.next_frame()
    assert broken.value.code is Code.FRAME_TOO_LARGE
    assert broken.value.limit == "at most 8 bytes"


def test_length_is_refused_on_its_prefix() -> None:
    """A length over the limit is refused as soon as its fourth byte is there, and not before."""
    reader = FrameReader(4096)
    for byte in (b"\xff", b"\xff", b"\xff"):
        reader.feed(byte)
        assert reader.next_frame() is None
    reader.feed(b"\xff")
    with pytest.raises(StreamBroken, match="not 4294967295"):
        reader.next_frame()
    assert reader.held_bytes == 0


def test_frames_before_the_broken_one_are_handed_out() -> None:
    """What came whole before the oversized frame is not lost."""
    reader = FrameReader(4)
    reader.feed(encode_frame(b"good") + encode_frame(b"too long") + encode_frame(b"lost"))
    assert reader.next_frame() == b"good"
    with pytest.raises(StreamBroken):
        reader.next_frame()


def test_broken_reader_stays_broken_and_holds_nothing() -> None:
    """After a broken stream every question gets the same error, and what is fed is dropped."""
    reader = FrameReader(4)
    reader.feed(encode_frame(b"too long"))
    for _ in range(3):
        with pytest.raises(StreamBroken, match="at most 4 bytes, not 8"):
            reader.next_frame()
        reader.feed(encode_frame(b"ok") * 1000)
        assert reader.held_bytes == 0
        assert not reader.begun


def test_dropped_reader_is_silent() -> None:
    """A reader told to drop forgets what it holds and takes no more, without an error."""
    reader = FrameReader(4)
    reader.feed(encode_frame(b"ok") + b"\x00")
    reader.drop()
    reader.feed(encode_frame(b"too long"))
    assert reader.next_frame() is None
    assert reader.held_bytes == 0


def test_limit_can_be_widened_between_frames() -> None:
    """A wider limit judges every prefix not yet passed, also one that is held already."""
    reader = FrameReader(4)
    reader.feed(encode_frame(b"1234") + encode_frame(b"12345678"))
    assert reader.next_frame() == b"1234"
    reader.max_frame_bytes = 8
    assert frames(reader) == [b"12345678"]


def test_byte_by_byte_copies_linearly() -> None:
    """A large frame fed byte by byte never needs a second copy of itself while it grows."""
    body = b"\x5a" * 200_000
    reader = FrameReader(len(body))
    frame = encode_frame(body)
    tracemalloc.start()
    try:
        for read in pieces(frame[:-1]):
            reader.feed(read)
            assert reader.next_frame() is None
        current, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert current < len(frame) * 1.2
    assert peak < len(frame) * 2.4  # a bytearray that is moved to a larger place is held twice for a moment
    reader.feed(frame[-1:])
    assert frames(reader) == [body]
    assert reader.held_bytes == 0


def test_held_bytes_stay_under_frame_and_read() -> None:
    """A reader that is emptied after each read never holds more than one begun frame and that read."""
    chance = random.Random(2)
    reader = FrameReader(1000)
    backlog = b""
    for _ in range(5000):
        backlog += encode_frame(chance.randbytes(chance.randrange(1001)))
        size = chance.randrange(1, 4000)
        read, backlog = backlog[:size], backlog[size:]
        reader.feed(read)
        assert reader.held_bytes <= 1000 + 4 + len(read)
        frames(reader)
        assert reader.held_bytes < 1000 + 4
        assert reader.begun == (reader.held_bytes > 0)


def test_memory_is_flat_over_many_frames() -> None:
    """Thousands of frames, whole and cut, leave no memory behind."""
    stream = b"".join(encode_frame(bytes([n % 256]) * (n % 700)) for n in range(500))

    def one_round(reader: FrameReader) -> None:
        for size in (len(stream), 1460, 97):
            for read in pieces(stream, size):
                reader.feed(read)
                while reader.next_frame() is not None:
                    pass

    reader = FrameReader(1000)
    one_round(reader)
    tracemalloc.start()
    try:
        one_round(reader)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(10):
            one_round(reader)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1024
