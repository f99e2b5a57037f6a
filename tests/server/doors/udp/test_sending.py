"""One thing to many: bursts, pauses, a full socket, and who hears what is newer first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock

from server.doors.udp.parts import Address, UdpCounts
from server.doors.udp.sending import BURST, PAUSE, Outlet, Spread
from tests.server.doors.udp.site import FakeSocket


class Hall:
    """Somewhere with so many seats."""

    def __init__(self, seats: int, first: int = 1) -> None:
        self.seats: list[Address] = [("10.0.0.1", first + number) for number in range(seats)]

    def addresses(self) -> Sequence[Address]:
        return tuple(self.seats)


class Stage:
    """A spread on a socket that notes."""

    def __init__(self) -> None:
        self.clock: Any = Clock()
        self.counts = UdpCounts()
        self.socket = FakeSocket()
        outlet = Outlet(self.counts)
        outlet.open(self.socket.sendto)
        self.spread = Spread(self.clock, outlet, self.counts)

    def told(self) -> list[int]:
        """The ports, in order, since the last time."""
        ports = [address[1] for _, address in self.socket.sent]
        self.socket.sent.clear()
        return ports


def line(number: int) -> list[bytes]:
    """What is said."""
    return [bytes(24) + f"line {number}".encode()]


def test_a_small_audience_hears_at_once() -> None:
    """In order, and without a timer."""
    stage, hall = Stage(), Hall(20)
    stage.spread.say(hall, line(1))
    assert stage.told() == list(range(1, 21))
    assert stage.clock.getDelayedCalls() == []
    assert (stage.counts.sent, stage.counts.sent_bytes) == (20, 20 * 30)


def test_a_large_audience_hears_in_bursts() -> None:
    """A turn of the loop lies between two of them, and no time."""
    stage, hall = Stage(), Hall(1000)
    stage.spread.say(hall, line(1))
    assert len(stage.socket.sent) == BURST
    turns: list[int] = []
    stage.clock.callLater(0, lambda: turns.append(len(stage.socket.sent)))
    stage.clock.advance(0)
    assert turns == [2 * BURST]
    assert stage.told() == list(range(1, 1001))
    assert (stage.clock.seconds(), stage.clock.getDelayedCalls()) == (0, [])


def test_several_small_audiences_share_a_burst() -> None:
    """What is said within a millisecond counts together."""
    stage = Stage()
    for number in range(30):
        stage.spread.say(Hall(5, first=1 + 5 * number), line(1))
    assert len(stage.told()) == BURST
    stage.clock.advance(0)
    assert len(stage.told()) == 50
    stage.clock.advance(PAUSE)
    stage.spread.say(Hall(5), line(2))
    assert len(stage.told()) == 5


def test_what_is_newer_takes_the_place_of_what_was_not_sent() -> None:
    """Those who were left out are the first to hear it, and nobody hears the old after the new."""
    stage, hall = Stage(), Hall(150)
    stage.spread.say(hall, line(1))
    assert stage.told() == list(range(1, 101))
    stage.spread.say(hall, line(2))
    assert stage.told() == []
    stage.clock.advance(PAUSE)
    first = [(datagram[24:], address[1]) for datagram, address in stage.socket.sent]
    assert first[:51] == [(b"line 2", port) for port in [*range(101, 151), 1]]
    stage.clock.advance(PAUSE)
    assert {(address[1]) for datagram, address in stage.socket.sent if datagram.endswith(b"2")} == set(range(1, 151))
    assert stage.counts.overtaken == 50


@pytest.mark.parametrize("left", [True, False])
def test_who_leaves_meanwhile_is_no_trouble(left: bool) -> None:
    """Also where it would have been the first."""
    stage, hall = Stage(), Hall(150)
    stage.spread.say(hall, line(1))
    stage.told()
    hall.seats.pop(100 if left else 0)
    stage.spread.say(hall, line(2))
    stage.clock.advance(PAUSE)
    stage.clock.advance(PAUSE)
    assert sorted(stage.told()) == sorted(address[1] for address in hall.seats)


def test_a_full_socket_is_waited_for() -> None:
    """Nothing is lost and nothing sent twice, also between the pieces of one result."""
    stage, hall = Stage(), Hall(10)
    stage.socket.room = 7
    stage.spread.say(hall, [b"a" * 30, b"b" * 30])
    assert len(stage.socket.sent) == 7
    stage.clock.advance(PAUSE)
    assert len(stage.socket.sent) == 7
    stage.socket.room = 1000
    stage.clock.advance(PAUSE)
    expected = [(datagram, address) for address in hall.seats for datagram in (b"a" * 30, b"b" * 30)]
    assert stage.socket.sent == expected
    assert stage.clock.getDelayedCalls() == []


def test_an_address_without_a_way_holds_up_nobody() -> None:
    """It is counted."""
    stage, hall = Stage(), Hall(10)
    stage.socket.unreachable = {hall.seats[3]}
    stage.spread.say(hall, line(1))
    assert stage.told() == [1, 2, 3, 5, 6, 7, 8, 9, 10]
    assert (stage.counts.unsent, stage.counts.sent) == (1, 9)


def test_an_empty_hall_is_told_nothing() -> None:
    """And nothing is kept for it."""
    stage = Stage()
    stage.spread.say(Hall(0), line(1))
    assert (stage.told(), stage.spread._rounds) == ([], {})


def test_after_a_stop_nothing_is_sent() -> None:
    """Whatever was under way."""
    stage, hall = Stage(), Hall(150)
    stage.spread.say(hall, line(1))
    stage.told()
    stage.spread.stop()
    stage.clock.advance(1.0)
    assert (stage.told(), stage.clock.getDelayedCalls()) == ([], [])
