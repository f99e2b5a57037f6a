"""The pipe between the server and a stream process."""

from __future__ import annotations

from array import array

import pytest

from ai.live import packing
from ai.live.packing import Messages, PackingError, pack, pack_forget, pack_loaded, pack_ran, pack_tick

TICK = pack_tick(7, [1, 2**63], [0.0, 0.5], [b"abcd", b"efgh"])


def one(data: bytes) -> packing.Packed:
    """The one message in it."""
    (message,) = Messages().receive(data)
    return message


def test_a_tick_arrives_as_it_was_packed() -> None:
    """Sessions, times and inputs by row."""
    message = one(TICK)
    tick = packing.read_tick(message.body, 4)
    assert (message.kind, tick.number, list(tick.sessions), list(tick.dt)) == (packing.TICK, 7, [1, 2**63], [0.0, 0.5])
    assert tick.inputs == b"abcdefgh"


def test_answers_arrive_as_they_were_packed() -> None:
    """Each kind."""
    ran = packing.read_ran(one(pack_ran(9, 0.25, b"\0\1", array("f", [1, 2, 3, 4]).tobytes())).body, 2)
    assert (ran.number, ran.seconds, ran.outcomes, list(ran.values)) == (9, 0.25, b"\0\1", [1, 2, 3, 4])
    assert packing.read_loaded(one(pack_loaded(1.5)).body) == 1.5
    assert list(packing.read_forget(one(pack_forget([3, 4])).body)) == [3, 4]


def test_messages_are_found_however_they_are_cut() -> None:
    """Byte by byte, and several at once with a piece of the next."""
    data = TICK + pack(packing.READY) + pack(packing.REFUSED, b"why")
    kinds = [packing.TICK, packing.READY, packing.REFUSED]
    slowly = Messages()
    assert [message.kind for byte in data for message in slowly.receive(bytes([byte]))] == kinds
    messages = Messages()
    assert [message.kind for message in messages.receive(data + TICK[:5])] == kinds
    assert [message.body for message in messages.receive(TICK[5:])] == [TICK[5:]]


@pytest.mark.parametrize("size", [0, (1 << 28) + 1, 0xFFFFFFFF])
def test_a_length_that_nobody_sends_is_refused_at_once(size: int) -> None:
    """Before a byte of it is kept."""
    with pytest.raises(PackingError):
        list(Messages().receive(size.to_bytes(4, "little") + b"\x01"))


def test_a_body_that_is_cut_short_is_refused() -> None:
    """Of every kind that has one, at every length."""
    tick, ran = one(TICK).body, one(pack_ran(9, 0.25, b"\0", bytes(8))).body
    for end in range(len(tick)):
        with pytest.raises(PackingError):
            packing.read_tick(tick[:end], 4)
    for end in range(len(ran)):
        with pytest.raises(PackingError):
            packing.read_ran(ran[:end], 2)
    with pytest.raises(PackingError):
        packing.read_loaded(b"\0" * 7)
    with pytest.raises(PackingError):
        packing.read_forget(b"\0" * 9)
