"""Builds one protocol a TCP connection, and keeps count of them."""

from __future__ import annotations

import asyncio
import itertools
import socket
from collections import Counter
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from factory.eager import write_eagerly
from factory.sockets import adopt
from server.door_counts import DoorCounts
from server.door_parts import DoorParts, hang_up
from server.errors import Code, Refusal
from server.futures import as_future
from server.protocol import CLOSING_GRACE, AtelierProtocol
from server.session import ENDS
from server.wire.connection import Connection, Role
from server.wire.telling import encode_goodbye


class TcpDoor(Factory):
    """The connections of the TCP door, at most so many in all and per address."""

    noisy = False

    def __init__(self, parts: DoorParts, *, max_connections: int, max_per_address: int) -> None:
        self._parts = parts
        self._max_connections = max_connections
        self._max_per_address = max_per_address
        self._open: dict[AtelierProtocol, str] = {}
        self._per_address: Counter[str] = Counter()
        self._sessions = itertools.count(1)
        self._all_gone: asyncio.Future[None] | None = None

    async def listen(self, reactor: Any, endpoint: str, bound: socket.socket | None = None) -> Any:
        """Listen where a Twisted endpoint string says, or on a socket that does already; gives the IListeningPort.

        Raises ValueError, CannotListenError.
        """
        if bound is not None:
            port = adopt(reactor, endpoint, bound, self, lambda: self.connections)
        else:
            server: Any = serverFromString(reactor, endpoint)  # type: ignore[no-untyped-call]
            port = await as_future(server.listen(self))
        write_eagerly(port)
        return port

    def buildProtocol(self, addr: Any) -> Protocol:
        """A connection's protocol: one that serves it, or one that says why it is not served."""
        host = getattr(addr, "host", "")  # a UNIX socket has none
        refusal = self._why_not(host)
        if refusal is not None:
            self._parts.counts.refusals[refusal.code.name] += 1
            self._parts.counts.ends[ENDS[refusal.code].value] += 1
            return Refused(self._parts, refusal)
        protocol = AtelierProtocol(self._parts, f"s{next(self._sessions)}", self._lost)
        self._parts.counts.connections += 1
        self._open[protocol] = host
        self._per_address[host] += 1
        return protocol

    @property
    def counts(self) -> DoorCounts:
        """What the door has seen."""
        return self._parts.counts

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def close_all(self, reason: Refusal) -> None:
        """Let everyone hear the end of what has ended, say goodbye, and wait until they are gone (which is soon)."""
        if not self._open:
            return
        self._all_gone = asyncio.get_running_loop().create_future()
        for protocol in tuple(self._open):
            protocol.leave(reason)
        await self._all_gone

    def _why_not(self, host: str) -> Refusal | None:
        if not self._parts.identities.serves(host):
            return Refusal(Code.PERMISSION_DENIED, "without tokens, only this machine's own addresses are served")
        if len(self._open) >= self._max_connections:
            limit = f"{self._max_connections} connections"
        elif self._per_address[host] >= self._max_per_address:
            limit = f"{self._max_per_address} connections from one address"
        else:
            return None
        return Refusal(Code.TOO_MANY_CONNECTIONS, f"the limit of {limit} is reached", limit=limit)

    def _lost(self, protocol: AtelierProtocol) -> None:
        host = self._open.pop(protocol)
        self._per_address[host] -= 1
        if not self._per_address[host]:
            del self._per_address[host]
        if self._all_gone is not None and not self._open and not self._all_gone.done():
            self._all_gone.set_result(None)


class Refused(Protocol):
    """Says why, and closes; does not wait for a peer that does not read."""

    def __init__(self, parts: DoorParts, refusal: Refusal) -> None:
        self._clock = parts.clock
        self._limits = parts.limits
        self._refusal = refusal
        self._timer: Any = None

    def connectionMade(self) -> None:
        """Say goodbye."""
        transport: Any = self.transport
        size = self._limits.handshake_frame_bytes
        wire = Connection(Role.SERVER, handshake_frame_bytes=size, open_frame_bytes=size)
        transport.write(wire.send(encode_goodbye(self._refusal)))
        hang_up(transport)
        self._timer = self._clock.callLater(CLOSING_GRACE, transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Leave no timer behind."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
