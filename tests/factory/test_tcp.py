"""How many may connect to the TCP door, and who."""

from __future__ import annotations

import asyncio

import pytest

from proto import atelier_pb2 as pb
from server.errors import Code, Refusal
from tests.server.door import Door, Peer, kinds
from tests.server.fakes import settle
from tests.server.house import House

STOPPED = Refusal(Code.UNAVAILABLE, "the server has stopped")


async def refusal(peer: Peer) -> str:
    """The code of the Goodbye that is all the peer hears."""
    (goodbye,) = await peer.hear()
    assert goodbye.kind == "goodbye"
    assert not peer.transport.connected
    return pb.ErrorCode.Name(goodbye.message.code)


async def test_connections_from_one_address_are_limited() -> None:
    """One more is told so and closed; another address is served; who leaves makes room."""
    door = Door(max_per_address=2)
    first, second = door.connect("10.0.0.1"), door.connect("10.0.0.1")
    assert await refusal(door.connect("10.0.0.1")) == "TOO_MANY_CONNECTIONS"
    assert (await door.connect("10.0.0.2").greet()).kind == "welcome"
    first.transport.hang_up()
    assert (await door.connect("10.0.0.1").greet()).kind == "welcome"
    assert (await second.greet()).kind == "welcome"


async def test_connections_in_all_are_limited() -> None:
    """Wherever they come from."""
    door = Door(max_connections=2)
    peers = [door.connect(f"10.0.0.{number}") for number in (1, 2)]
    assert await refusal(door.connect("10.0.0.3")) == "TOO_MANY_CONNECTIONS"
    assert door.tcp.connections == 2
    for peer in peers:
        peer.transport.hang_up()
    assert door.tcp.connections == 0
    assert "10.0.0." not in repr(vars(door.tcp)), "addresses that came once are not kept for ever"
    assert (await door.connect("10.0.0.3").greet()).kind == "welcome"


async def test_refused_connections_are_not_counted() -> None:
    """However many try, those who are in stay, and nothing is kept of the others."""
    door = Door(max_per_address=1)
    peer = await door.client()
    for _ in range(50):
        await refusal(door.connect())
    assert door.tcp.connections == 1
    assert (await peer.ask(ping=pb.Ping())).kind == "pong"
    peer.transport.hang_up()
    assert door.clock.getDelayedCalls() == []
    assert (await door.connect().greet()).kind == "welcome"


@pytest.mark.parametrize("host", ["10.0.0.1", "192.168.1.2", "::ffff:10.0.0.1", "2001:db8::1"])
async def test_without_tokens_foreign_addresses_are_not_served(host: str) -> None:
    """PERMISSION_DENIED, before anything is said."""
    door = Door(House(tokens={}))
    assert await refusal(door.connect(host)) == "PERMISSION_DENIED"
    assert door.tcp.connections == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "::ffff:127.0.0.1"])
async def test_without_tokens_this_machine_is_served(host: str) -> None:
    """By whichever of its addresses."""
    assert (await Door(House(tokens={})).connect(host).greet("")).kind == "welcome"


async def test_a_refused_peer_that_does_not_read_is_cut_off() -> None:
    """After the grace; what it sends meanwhile is dropped."""
    door = Door(max_connections=1)
    door.connect()
    peer = door.connect()
    peer.protocol.dataReceived(b"\xff" * 1000)
    door.clock.advance(1.9)
    assert peer.transport.connected
    door.clock.advance(0.2)
    assert peer.transport.aborted


async def test_closing_all_tells_everyone_and_waits_for_them() -> None:
    """Whether they were welcomed or not; with nobody there it is done at once."""
    door = Door()
    await door.tcp.close_all(STOPPED)
    peers = [await door.client(), await door.client(), door.connect()]
    closing = asyncio.ensure_future(door.tcp.close_all(STOPPED))
    await settle()
    assert not closing.done()
    for peer in peers:
        heard = await peer.hear()
        assert kinds(heard) == ["goodbye"]
        assert heard[0].message.code == pb.UNAVAILABLE
    await settle()
    assert closing.done()
    assert door.clock.getDelayedCalls() == []


async def test_closing_all_cuts_off_who_does_not_read() -> None:
    """Within its graces."""
    door = Door()
    peer = await door.client()
    closing = asyncio.ensure_future(door.tcp.close_all(STOPPED))
    await settle()
    door.clock.advance(2.1)
    await settle()
    assert closing.done()
    assert peer.transport.aborted
