"""Datagrams, sealed and opened, and which of their numbers were there before."""

from __future__ import annotations

import hmac
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto import atelier_udp_pb2 as udp
from server.wire.datagrams import (
    HEADER,
    LARGEST,
    ROOM,
    TO_ALL,
    DatagramTooLarge,
    Direction,
    is_signed,
    key_id_of,
    read_client,
    read_server,
    seal,
    to_all,
)
from server.wire.replay import WINDOW, ReplayWindow
from server.wire.udp_telling import cut

KEY, KEY_ID = bytes(range(32)), 0x0123456789ABCDEF


def test_a_client_and_a_server_understand_each_other() -> None:
    """What one seals the other opens; neither takes its own words for the other's."""
    said = udp.ClientDatagram(sequence=7, subscribe=udp.Subscribe(job_id="j-1"))
    datagram = seal(said, Direction.CLIENT, KEY_ID, KEY)
    assert key_id_of(datagram) == KEY_ID
    assert is_signed(datagram, Direction.CLIENT, KEY)
    assert not is_signed(datagram, Direction.SERVER, KEY)
    assert not is_signed(datagram, Direction.CLIENT, bytes(32))
    assert read_client(datagram) == said
    answer = udp.ServerDatagram(answers=7, alive=udp.Alive(subscriptions=1))
    assert read_server(seal(answer, Direction.SERVER, KEY_ID, KEY)) == answer


def test_the_tag_is_made_as_the_layout_says() -> None:
    """Byte by byte, with nothing but the standard library."""
    said = udp.ClientDatagram(sequence=7, heartbeat=udp.Heartbeat())
    body = said.SerializeToString()
    head = b"\x01\x23\x45\x67\x89\xab\xcd\xef"
    tag = hmac.new(KEY, b"C" + head + body, "sha256").digest()[:16]
    assert seal(said, Direction.CLIENT, KEY_ID, KEY) == head + tag + body


def test_no_bit_of_a_datagram_can_be_another() -> None:
    """Of the id, the tag or the message."""
    datagram = seal(udp.ClientDatagram(sequence=7, heartbeat=udp.Heartbeat()), Direction.CLIENT, KEY_ID, KEY)
    for bit in range(8 * len(datagram)):
        changed = bytearray(datagram)
        changed[bit // 8] ^= 1 << bit % 8
        assert not is_signed(bytes(changed), Direction.CLIENT, KEY)


def test_a_datagram_has_its_size() -> None:
    """1,200 bytes go, one more does not, whether it is signed or not; nothing shorter than its header is one."""
    padding = ROOM - 9
    largest = udp.ClientDatagram(sequence=1, heartbeat=udp.Heartbeat(padding=bytes(padding)))
    while largest.ByteSize() < ROOM:
        padding += 1
        largest.heartbeat.padding = bytes(padding)
    while largest.ByteSize() > ROOM:
        padding -= 1
        largest.heartbeat.padding = bytes(padding)
    datagram = seal(largest, Direction.CLIENT, KEY_ID, KEY)
    assert (len(datagram), key_id_of(datagram)) == (LARGEST, KEY_ID)
    assert key_id_of(datagram + b"x") is None
    assert [key_id_of(datagram[:size]) for size in (0, 7, HEADER)] == [None] * 3
    assert key_id_of(datagram[: HEADER + 1]) == KEY_ID
    for sealed in (lambda m: seal(m, Direction.SERVER, 1, KEY), to_all):
        with pytest.raises(DatagramTooLarge, match="room for 1176"):
            sealed(udp.ServerDatagram(names=udp.Names(live_id="x" * 1200)))


def test_what_is_for_all_is_signed_by_nobody() -> None:
    """Key id and tag are 0."""
    datagram = to_all(udp.ServerDatagram(live_ended=udp.LiveEnded(live_id="l")))
    assert datagram[:HEADER] == TO_ALL == bytes(24)
    assert key_id_of(datagram) == 0


@pytest.mark.parametrize("body", [b"", b"\xff" * 40, b"\x08\x01", b"\x52\x02\x0a\xff", b"\xfa\x07\x00"])
def test_what_says_nothing_is_none(body: bytes) -> None:
    """Also text that is no UTF-8, and a message of a later version."""
    assert read_client(bytes(HEADER) + body) is None
    assert read_server(bytes(HEADER) + body) is None


@settings(derandomize=True, database=None, deadline=None, max_examples=300)
@given(st.lists(st.integers(0, 3 * WINDOW) | st.integers(0, 2**64 - 1), max_size=60))
def test_a_window_takes_each_number_once(numbers: list[int]) -> None:
    """Never twice, never 0; each that is new and not too old."""
    window, taken, highest = ReplayWindow(), set[int](), 0
    for number in numbers:
        expected = number > 0 and number not in taken and number > highest - WINDOW
        assert window.take(number) == expected
        if expected:
            taken.add(number)
            highest = max(highest, number)


def test_a_window_holds_over_a_long_way() -> None:
    """Numbers that come out of order by less than the window are all taken, once; memory does not grow."""
    chance, window = random.Random(7), ReplayWindow()
    numbers = sorted(range(1, 20_001), key=lambda number: number + chance.randrange(WINDOW - 1))
    assert all(window.take(number) for number in numbers)
    assert not any(window.take(number) for number in numbers)
    assert window._seen.bit_length() <= WINDOW


@pytest.mark.parametrize(
    ("text", "shown"), [("short", "short"), ("ü" * 10, "üüü…"), ("abcdefghij", "abcdef…"), ("", "")]
)
def test_texts_are_cut_between_characters(text: str, shown: str) -> None:
    """And say that they were."""
    assert cut(text, 9) == shown
