"""The HTTP door from its settings: sockets, TLS, what is told when it cannot listen."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.error import CannotListenError

from config import SettingsError, load_settings
from factory.http import HttpDoor
from tests.server.house import LIMITS, House
from tests.server.scripted import certify


def the_door(reactor: Any, **settings: Any) -> HttpDoor:
    """Over fakes, with these settings."""
    house = House()
    return HttpDoor(
        load_settings(**settings),
        reactor,
        identities=house.identities,
        handlers=house.handlers,
        board=house.board,
        store=house.store,
        artifacts=house.artifacts,
        health=house.health,
        request_limits=LIMITS,
        outgoing=None,
    )


async def live(address: str, context: ssl.SSLContext | None = None) -> bytes:
    """The first line of what /livez answers."""
    host, _, port = address.partition("://")[2].rpartition(":")
    reader, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    writer.write(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
    said = await reader.read()
    writer.close()
    return said.split(b"\r\n")[0]


async def test_one_that_is_off_does_nothing(reactor: Any) -> None:
    """It has no address, and can be closed."""
    door = the_door(reactor, http_listen="off")
    assert await door.listen() == ""
    assert door.connections == 0
    door.stop_listening()
    await door.close_all()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_it_listens_where_the_settings_say(reactor: Any, host: str) -> None:
    """API_HOST and API_PORT's way; its address can be shown, and closed it is gone."""
    door = the_door(reactor, http_host=host, http_port=0)
    address = await door.listen()
    assert address.startswith("http://[::1]:" if ":" in host else "http://127.0.0.1:")
    assert await live(address) == b"HTTP/1.1 200 OK"
    door.stop_listening()
    await door.close_all()
    with pytest.raises(OSError):  # noqa: PT011  # each family has its own words
        await live(address)


async def test_it_speaks_tls(reactor: Any, tmp_path: Path) -> None:
    """With the key and the certificate of an ssl: endpoint."""
    certify(tmp_path, "localhost")
    files = f"privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem"
    door = the_door(reactor, http_listen=f"ssl:0:interface=127.0.0.1:{files}")
    address = await door.listen()
    assert address.startswith("https://")
    context = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
    context.check_hostname = False
    assert await live(address, context) == b"HTTP/1.1 200 OK"
    door.stop_listening()
    await door.close_all()


@pytest.mark.parametrize("listen", ["tcp:nine:interface=127.0.0.1", "ssl:0:interface=127.0.0.1:privateKey=/none.pem"])
async def test_an_endpoint_that_cannot_be_used_is_named(reactor: Any, listen: str) -> None:
    """By its variable."""
    with pytest.raises(SettingsError, match="ATELIER_HTTP_LISTEN"):
        await the_door(reactor, http_listen=listen).listen()


async def test_an_address_in_use_is_told(reactor: Any) -> None:
    """As the TCP door tells it; nothing of uvicorn's ends the process."""
    first = the_door(reactor, http_port=0)
    port = (await first.listen()).rpartition(":")[2]
    with pytest.raises(CannotListenError, match=port):
        await the_door(reactor, http_port=port).listen()
    first.stop_listening()
    await first.close_all()
