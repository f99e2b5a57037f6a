"""The UDP door: its keys, its socket, and where clients are told that it is."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import Any, cast

import structlog
from twisted.internet.error import CannotListenError

from config import Settings, SettingsError
from factory.listening import read_endpoint
from server.clock import Clock
from server.door_parts import unnoted
from server.doors.udp.door import UdpDoor
from server.doors.udp.parts import UdpCounts, UdpLimits, UdpParts
from server.futures import as_future
from server.handlers import HandlerTable
from server.handlers.connect_udp import ConnectUdpHandler
from server.identity import Identities
from server.jobs.board import Board
from server.live.events import Live
from server.principal import Principal
from server.udp_keys import UdpKeys

log = structlog.get_logger("atelier.udp")

DEFAULT_PORT = 9001  # where the TCP door is at no port


class UdpHouse:
    """`connect` is the handler of ConnectUdp. The door is joined to what it asks once that is there."""

    def __init__(self, settings: Settings, reactor: Any) -> None:
        self._settings = settings
        self._reactor = reactor
        self._clock = cast(Clock, reactor)
        self._keys = UdpKeys(
            self._clock.seconds,
            seconds=settings.udp_key_seconds,
            most=settings.udp_keys,
            most_per_owner=settings.udp_keys_per_owner,
        )
        self._door: UdpDoor | None = None
        self._port: Any = None  # IListeningPort, which mypy cannot read
        self.counts = UdpCounts()
        self.connect = ConnectUdpHandler(self._keys, self._where, heartbeat=settings.udp_heartbeat)

    def join(
        self,
        handlers: HandlerTable,
        board: Board,
        identities: Identities,
        live: Live,
        note: Callable[[Principal, str, str, str], None] = unnoted,
    ) -> None:
        """Make the door."""
        settings = self._settings
        limits = UdpLimits(
            heartbeat=settings.udp_heartbeat,
            datagrams_per_second=settings.udp_datagrams_per_second,
            subscriptions_per_owner=settings.udp_subscriptions_per_owner,
            subscriptions=settings.udp_subscriptions,
            group=settings.udp_group_address(),
        )
        self._door = UdpDoor(
            UdpParts(
                keys=self._keys,
                identities=identities,
                handlers=handlers,
                board=board,
                live=live,
                clock=self._clock,
                limits=limits,
                note=note,
                counts=self.counts,
            )
        )

    def listen(self) -> str:
        """Open the port; gives where, as text ("" where it stays shut). Raises SettingsError, CannotListenError."""
        if not self._settings.udp or self._door is None:
            return ""
        bound = open_socket(self._settings)
        self._port = self._reactor.adoptDatagramPort(
            bound.fileno(), bound.family, self._door
        )  # a descriptor of its own
        bound.close()
        host = self._port.getHost()
        return f"udp:{host.host}:{host.port}"

    async def close(self) -> None:
        """Tell everyone that it is over, and shut."""
        if self._port is None:
            return
        if self._door is not None:
            self._door.close()
        stopping = self._port.stopListening()
        self._port = None
        if stopping is not None:
            await as_future(stopping)

    @property
    def keys(self) -> int:
        """How many hold."""
        return len(self._keys)

    @property
    def peers(self) -> int:
        """Clients that are there."""
        return self._door.peers if self._door else 0

    @property
    def subscriptions(self) -> int:
        """What they hear."""
        return self._door.subscriptions if self._door else 0

    def _where(self) -> tuple[str, int] | None:
        if self._port is None:
            return None
        bound = self._port.getHost()
        host = "" if ipaddress.ip_address(bound.host).is_unspecified else bound.host
        return self._settings.udp_public_host or host, bound.port


def first_port(settings: Settings) -> int:
    """The port where none is set: the one after the TCP door's; 0 (any) where that has any, too."""
    if settings.tcp_listen.startswith(("unix:", "systemd:")):
        return DEFAULT_PORT
    port = read_endpoint(settings.tcp_listen, "ATELIER_TCP_LISTEN").port
    return port + 1 if 0 < port < 65_535 else 0


def open_socket(settings: Settings) -> socket.socket:
    """At the port that was set, or about there where none was. Raises SettingsError, CannotListenError."""
    wanted = settings.udp_port
    if wanted is not None:
        return _bound(settings, wanted)
    try:
        return _bound(settings, first_port(settings))
    except CannotListenError as error:
        bound = _bound(settings, 0)
        log.warning("udp.other_port", wanted=error.port, port=bound.getsockname()[1])
        return bound


def _bound(settings: Settings, port: int) -> socket.socket:
    host = settings.udp_host
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        bound.setblocking(False)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise CannotListenError(host, port, error) from error  # type: ignore[no-untyped-call]
    try:
        prepare(bound, settings)
    except OSError as error:
        bound.close()
        raise SettingsError(f"ATELIER_UDP_GROUP: {error.strerror}") from error
    return bound


def prepare(bound: socket.socket, settings: Settings) -> None:
    """Large buffers, and leave to send to a group. Raises OSError."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        bound.setsockopt(socket.SOL_SOCKET, option, settings.udp_buffer_bytes)
    group = settings.udp_group_address()
    if group is None:
        return
    address = ipaddress.ip_address(group[0])
    if address.version != (6 if bound.family == socket.AF_INET6 else 4):
        raise OSError(0, f"an IPv{address.version} address cannot be reached from ATELIER_UDP_HOST")
    if not address.is_multicast:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    elif address.version == 4:
        bound.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, settings.udp_multicast_ttl)
        if not ipaddress.ip_address(settings.udp_host).is_unspecified:
            bound.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(settings.udp_host))
    else:
        bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, settings.udp_multicast_ttl)
