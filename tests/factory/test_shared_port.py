"""A socket that several processes accept from: here two ports on it, and a clock that a test advances."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any, cast

import pytest
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock

from factory.listening import Endpoint
from factory.shared_port import LONGEST_WAIT, MOST, SHARE, listen_together
from factory.sockets import bind

HERE = Endpoint("tcp", 0, {"interface": "127.0.0.1"})


class Process(Factory):
    """One that accepts; its connections are never served."""

    noisy = False

    def __init__(self, clock: Any, bound: socket.socket) -> None:
        self.taken: list[Protocol] = []
        self.more = 0  # connections that it has beside these
        self.port = listen_together(clock, bound, self, lambda: self.more + len(self.taken))

    def buildProtocol(self, addr: Any) -> Protocol:
        self.taken.append(Protocol())
        return self.taken[-1]

    def end(self) -> None:
        for one in self.taken:
            transport: Any = one.transport
            transport.socket.close()
        if self.port.connected:
            self.port.connectionLost(None)


class House:
    """Two processes, and who connects to them."""

    def __init__(self) -> None:
        self.clock: Any = cast(Any, MemoryReactorClock)()
        with closing(bind(HERE)) as bound:
            self.address = bound.getsockname()
            self.one, self.other = Process(self.clock, bound), Process(self.clock, bound)
        self._clients: list[socket.socket] = []

    def connect(self, count: int) -> None:
        """So many come at once."""
        self._clients += [socket.create_connection(self.address) for _ in range(count)]

    def turn(self, seconds: float = 0.0) -> None:
        """The kernel wakes whoever watches the socket; then so long passes."""
        for process in (self.one, self.other):
            if process.port in self.clock.getReaders():
                process.port.doRead()
        self.clock.advance(seconds)

    @property
    def shares(self) -> tuple[int, int]:
        return len(self.one.taken), len(self.other.taken)

    def end(self) -> None:
        self.one.end()
        self.other.end()
        for client in self._clients:
            client.close()


@pytest.fixture
def house() -> Iterator[House]:
    """One that leaves nothing open."""
    made = House()
    yield made
    made.end()


def test_each_takes_one_at_a_time(house: House) -> None:
    """Forty that come at once are had by both, nearly half and half."""
    house.connect(40)
    while sum(house.shares) < 40:
        house.turn(LONGEST_WAIT)
    assert min(house.shares) >= 16


def test_whoever_has_more_lets_the_other_go_first(house: House) -> None:
    """One that has just begun has what comes; the other takes what is left after a few milliseconds."""
    house.one.more = 1000
    house.connect(3)
    for _ in range(3):
        house.turn(0.001)
    assert house.shares == (0, 3)
    house.clock.advance(LONGEST_WAIT)  # the one finds that nobody is left
    house.other.port.stopReading()  # it is busy with something else
    house.connect(5)
    house.turn(LONGEST_WAIT / 2)
    assert house.shares == (0, 3)
    house.turn(LONGEST_WAIT / 2)
    assert house.shares == (5, 3)  # it may take 1 + 1000 // SHARE
    assert 1 + house.one.more // SHARE > 5


def test_one_that_is_alone_is_not_held_up(house: House) -> None:
    """It takes more at a turn the longer some are left; when all are taken, one again."""
    house.one.port.open_connections = lambda: 16  # most of those that come close at once
    house.other.port.stopReading()
    house.connect(100)
    turns = 0
    while sum(house.shares) < 100:
        house.turn(LONGEST_WAIT)
        turns += 1
    assert turns == 12  # 1, 1, 2, 2, 4, 4, …
    house.connect(3)
    house.turn(LONGEST_WAIT)
    assert sum(house.shares) == 101


def test_a_turn_takes_so_many_at_most(house: House) -> None:
    """However many wait, everything else has its turn between."""
    house.other.port.stopReading()
    house.one.port._left_some = 1000
    house.connect(MOST + 40)
    house.turn(LONGEST_WAIT)
    assert sum(house.shares) == MOST


def test_what_comes_as_one_ends_is_the_other_s(house: House) -> None:
    """Also where it had been woken for it already."""
    house.one.more = 10
    house.connect(1)
    house.other.port.stopReading()
    house.turn()
    house.one.port.stopListening()
    house.clock.advance(1.0)
    assert house.shares == (0, 0)
    house.other.port.startReading()
    house.turn()
    assert house.shares == (0, 1)
