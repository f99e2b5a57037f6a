"""A whole server in this process: the real door on a real port, the real engine, the embedded model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from config import load_settings
from factory.service import AtelierService, make_service
from proto import atelier_pb2 as pb
from tests.conftest import LOOP, start_reactor
from tests.integration.raw_client import RawClient

ALICE, BOB = "alice-token-0123456789", "bob-token-0123456789abc"


async def until_ready(address: tuple[str, int], token: str = "") -> None:
    """Ask for the status until the default model is loaded."""
    client = await RawClient.connect(address, token)
    while True:
        reply: Any = (await client.ask(get_server_status=pb.GetServerStatus())).message
        assert reply.state != pb.FAILED, reply.problem
        if reply.state == pb.READY:
            break
        await asyncio.sleep(0.05)  # the server offers no event for this; nothing depends on the pace
    await client.close()


def address_of(service: AtelierService) -> tuple[str, int]:
    """Host and port of its TCP door."""
    _, host, port = service.addresses[0].split(":")
    return host, int(port)


@pytest.fixture(scope="session")
def server(reactor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A ready server with two owners; gives its address."""
    start_reactor()
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="off",
        tokens=f"alice:{ALICE},bob:{BOB}",
        data_dir=tmp_path_factory.mktemp("data"),
    )
    service = make_service(settings, reactor)
    LOOP.run_until_complete(service.start())
    address = address_of(service)
    LOOP.run_until_complete(until_ready(address, ALICE))
    yield address
    LOOP.run_until_complete(service.stop())
