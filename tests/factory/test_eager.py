"""Connections that write at once: the same bytes in the same order, and the same back-pressure."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from factory.eager import EagerServer, write_eagerly
from server.futures import as_future


class Recorded(Protocol):
    """A connection that a test holds in its hand."""

    def __init__(self) -> None:
        self.made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.told: list[str] = []

    def connectionMade(self) -> None:
        self.made.set_result(self.transport)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.set_result(None)

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


async def connected(reactor: Any) -> tuple[Any, Recorded, socket.socket, Callable[[], Awaitable[None]]]:
    """A server's transport, its protocol, the peer's blocking socket, and what closes the port."""
    protocol = Recorded()
    port = reactor.listenTCP(0, Factory.forProtocol(lambda: protocol), interface="127.0.0.1")
    write_eagerly(port)
    peer = socket.create_connection(("127.0.0.1", port.getHost().port))
    transport = await protocol.made
    assert type(transport) is EagerServer

    async def close() -> None:
        await as_future(port.stopListening())

    return transport, protocol, peer, close


async def test_a_small_answer_is_sent_before_the_reactor_turns(reactor: Any) -> None:
    """What `write` was given can be read by the peer at once, and nothing is left to be watched."""
    transport, protocol, peer, close = await connected(reactor)
    transport.write(b"hello")
    assert peer.recv(100, socket.MSG_DONTWAIT) == b"hello"
    assert transport not in reactor.getWriters()
    transport.loseConnection()
    await protocol.lost
    peer.close()
    await close()


async def test_what_does_not_fit_follows_in_order_with_back_pressure(reactor: Any) -> None:
    """Twenty megabytes in uneven pieces arrive whole and in order; the producer is paused meanwhile, and resumed at the end."""
    transport, protocol, peer, close = await connected(reactor)
    transport.registerProducer(protocol, True)
    pieces = [bytes([index % 256]) * (1 + index * 7919 % 60_000) for index in range(700)]
    for piece in pieces:
        transport.write(piece)
    assert set(protocol.told) == {"pause"}  # Twisted says so at every write until there is room
    whole = b"".join(pieces)

    def read_all() -> bytes:
        got = bytearray()
        while len(got) < len(whole):
            got += peer.recv(1 << 20)
        return bytes(got)

    assert await asyncio.to_thread(read_all) == whole
    transport.write(b"after")
    assert await asyncio.to_thread(peer.recv, 100) == b"after"
    assert protocol.told[-1] == "resume"
    transport.unregisterProducer()
    transport.loseConnection()
    await protocol.lost
    peer.close()
    await close()


async def test_a_peer_that_is_gone_ends_the_connection_as_ever(reactor: Any) -> None:
    """Writing to a connection that was reset raises nothing; connectionLost comes once."""
    transport, protocol, peer, close = await connected(reactor)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    peer.close()  # a reset, not a goodbye
    for _ in range(10):
        transport.write(b"x" * 1000)
    await protocol.lost
    transport.write(b"into the void")
    await close()
