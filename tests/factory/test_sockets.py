"""Sockets that a supervisor opened are served as those that a process opens itself."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory
from twisted.protocols.wire import Echo

from factory.listening import Endpoint
from factory.sockets import adopt, bind, given, shown
from server.futures import as_future
from tests.server.scripted import certify

HERE = Endpoint("tcp", 0, {"interface": "127.0.0.1"})


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")  # by Twisted itself
@pytest.mark.parametrize("kind", ["tcp", "ssl"])
async def test_a_given_socket_is_served_with_the_endpoint_s_encryption(reactor: Any, tmp_path: Path, kind: str) -> None:
    """Whoever opened it may close it: the port has a descriptor of its own."""
    certify(tmp_path, "localhost")
    files = f":privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem"
    bound = bind(HERE)
    port_number = bound.getsockname()[1]
    copy = socket.socket(fileno=bound.detach())
    endpoint = f"{kind}:0:interface=127.0.0.1{files if kind == 'ssl' else ''}"
    port = adopt(reactor, endpoint, given(copy.detach(), "ATELIER_SOCKETS"), Factory.forProtocol(Echo), lambda: 0)
    trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem")) if kind == "ssl" else None
    name = {"server_hostname": "localhost"} if trust else {}
    reader, writer = await asyncio.open_connection("127.0.0.1", port_number, ssl=trust, **name)  # type: ignore[arg-type]
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()
    await as_future(port.stopListening())


def test_a_socket_says_where_it_listens() -> None:
    """As a client is told it."""
    bound = bind(HERE)
    number = bound.getsockname()[1]
    assert shown(bound, "tcp") == f"tcp:127.0.0.1:{number}"
    assert shown(bound, "http") == f"http://127.0.0.1:{number}"
    with pytest.raises(CannotListenError, match=str(number)):
        bind(Endpoint("tcp", number, {"interface": "127.0.0.1"}))
    bound.close()


def test_a_descriptor_that_is_no_socket_is_told() -> None:
    """By the setting that named it."""
    with pytest.raises(CannotListenError, match="ATELIER_SOCKETS"):
        given(987, "ATELIER_SOCKETS")
