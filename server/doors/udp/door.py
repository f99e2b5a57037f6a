"""The UDP door: datagrams in, judged one by one; who is silent for too long, or whose key is over, is put out.

    too short or long, no key that holds, a wrong tag, unknown, there before, too many → dropped and counted, never answered
    an address that has not shown that it hears us → a Challenge, no longer than what it answers
    all else → handled and answered

Twisted's shell around server.wire.datagrams; what the messages ask is done in `asking`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import structlog
from twisted.internet.protocol import DatagramProtocol

from proto import atelier_udp_pb2 as udp
from server.clock import Timer
from server.doors.udp.asking import Asking
from server.doors.udp.cookies import Cookies
from server.doors.udp.parts import Address, UdpParts
from server.doors.udp.peers import NOWHERE, Peer
from server.doors.udp.room import Room
from server.errors import Code, Refusal
from server.udp_keys import UdpKey
from server.wire.datagrams import Direction, is_signed, key_id_of, read_client, seal

log = structlog.get_logger("atelier.udp")

SWEEP_EVERY = 1.0  # seconds


class UdpDoor(DatagramProtocol):
    """One UDP port. Everything happens on the reactor thread."""

    noisy = False

    def __init__(self, parts: UdpParts) -> None:
        self._parts = parts
        self._counts = parts.counts
        self._cookies = Cookies()
        self._room = Room(parts)
        self._asking = Asking(parts, self._room, self._put_out)
        self._sweeper: Timer | None = None

    # Twisted's side

    def startProtocol(self) -> None:
        """The port is open."""
        transport: Any = self.transport
        self._room.outlet.open(
            transport.socket.sendto
        )  # Twisted's own write says nothing of a full buffer, and costs as much again
        self._sweeper = self._parts.clock.callLater(SWEEP_EVERY, self._sweep)

    def stopProtocol(self) -> None:
        """The port is closed."""
        self._room.outlet.close()

    def datagramReceived(self, datagram: bytes, addr: Address) -> None:
        """Take one."""
        self._counts.received += 1
        self._counts.received_bytes += len(datagram)
        try:
            why = self._take(datagram, addr)
        except Exception:
            log.exception("datagram.broken")
            why = "broken"
        if why:
            self._counts.dropped[why] += 1

    # From clients

    def _take(self, datagram: bytes, address: Address) -> str:
        """Why it was dropped; "" where it was not."""
        key_id = key_id_of(datagram)
        if key_id is None:
            return "size"
        key = self._parts.keys.find(key_id)
        if key is None:
            return "stranger"
        if not is_signed(datagram, Direction.CLIENT, key.secret):
            return "forged"
        said = read_client(datagram)
        if said is None:
            return "unknown"
        if not key.window.take(said.sequence):
            return "replayed"
        return self._judge(key, said, address, len(datagram))

    def _judge(self, key: UdpKey, said: udp.ClientDatagram, address: Address, size: int) -> str:
        now = self._parts.clock.seconds()
        peer = self._room.peer(key, now)
        if not peer.may_say(now, self._parts.limits.datagrams_per_second):
            return "too_many"
        if peer.address != address:
            if not said.cookie or not self._cookies.good(said.cookie, key.id, address, now):
                return self._challenge(key, said.sequence, address, size, now)
            self._room.move(peer, address)
        peer.heard_at = now
        self._asking.take(peer, said)
        return ""

    def _challenge(self, key: UdpKey, sequence: int, address: Address, size: int, now: float) -> str:
        challenge = udp.Challenge(cookie=self._cookies.make(key.id, address, now))
        message = udp.ServerDatagram(answers=sequence, challenge=challenge)
        answer = seal(message, Direction.SERVER, key.id, key.secret)
        if len(answer) > size:
            return "unproved"
        self._room.outlet.send(answer, address)
        return ""

    # Who stays

    def _sweep(self) -> None:
        now = self._parts.clock.seconds()
        self._sweeper = self._parts.clock.callLater(SWEEP_EVERY, self._sweep)
        for peer in self._room.peers():
            if peer.asking:  # it waits for us: for a model to load, say
                peer.heard_at = now
            if peer.key.expires_at <= now:
                self._put_out(peer, Code.UNAUTHENTICATED, "the key is over: ask for another by ConnectUdp")
            elif peer.heard_at + self._parts.limits.silence < now:
                self._put_out(peer, Code.IDLE_TIMEOUT, "nothing was heard for too long")
            else:
                self._asking.keep_fresh(peer)
        self._parts.keys.forget_ended()
        self._room.name_to_group()

    def _put_out(self, peer: Peer, code: Code, message: str) -> None:
        if not self._room.has(peer):
            return
        if peer.address != NOWHERE:
            self._counts.evicted[code.name] += 1
            self._room.say_evicted(peer, code, message)
        for opened in peer.sessions.values():
            _unless_gone(self._parts.live.close, peer.key.owner, opened.live_id)
        self._room.forget(peer)

    # Numbers

    @property
    def peers(self) -> int:
        """Clients that have shown their address, and were heard of lately."""
        return sum(peer.address != NOWHERE for peer in self._room.peers())

    @property
    def subscriptions(self) -> int:
        """Of all of them."""
        return self._room.subscriptions

    def close(self) -> None:
        """The server stops: tell everyone, and leave no timer behind."""
        if self._sweeper is not None and self._sweeper.active():
            self._sweeper.cancel()
        for peer in self._room.peers():
            self._put_out(peer, Code.UNAVAILABLE, "the server stops")
        self._room.close()


def _unless_gone(close: Callable[[str, str], object], owner: str, live_id: str) -> None:
    with contextlib.suppress(Refusal):  # it has ended by itself
        close(owner, live_id)
