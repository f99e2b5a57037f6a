"""Listening sockets: opened here, or given to this process by its supervisor, who keeps them open while processes come and go."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory

from factory.listening import Endpoint
from factory.shared_port import listen_together
from server.doors.http.serving import BACKLOG


def bind(endpoint: Endpoint) -> socket.socket:
    """A socket that listens. Raises CannotListenError."""
    host = endpoint.interface or ("::" if endpoint.kind == "tcp6" else "0.0.0.0")  # noqa: S104  # what was asked for
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, endpoint.port))
        bound.listen(BACKLOG)  # here, where an address in use can be told
        bound.setblocking(False)
    except OSError as error:
        bound.close()
        raise CannotListenError(host, endpoint.port, error) from error  # type: ignore[no-untyped-call]
    return bound


def given(number: int, setting: str) -> socket.socket:
    """The socket of a file descriptor that this process was started with. Raises CannotListenError."""
    try:
        found = socket.socket(fileno=number)
        found.getsockname()
    except OSError as error:
        raise CannotListenError(setting, number, error) from error  # type: ignore[no-untyped-call]
    found.set_inheritable(False)
    return found


def shown(bound: socket.socket, scheme: str) -> str:
    """Where it listens, as text ("tcp:127.0.0.1:9000", "http://127.0.0.1:8001")."""
    host, port, *_ = bound.getsockname()
    if scheme == "tcp":
        return f"tcp:{host}:{port}"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


def adopt(
    reactor: Any, endpoint: str, bound: socket.socket, factory: Factory, open_connections: Callable[[], int]
) -> Any:
    """An IListeningPort on a socket that listens already, with the encryption that a Twisted endpoint string says.

    `open_connections` says how many this process has. Raises ValueError, OSError for one whose key cannot be read.
    """
    server: Any = serverFromString(reactor, endpoint)  # type: ignore[no-untyped-call]
    context = getattr(server, "_sslContextFactory", None)  # tests/factory/test_sockets.py holds that "ssl:" has it
    plain: Any = factory
    made: Any = plain if context is None else TLSMemoryBIOFactory(context, False, plain)
    port = listen_together(reactor, bound, made, open_connections)
    bound.close()
    return port
