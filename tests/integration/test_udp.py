"""The UDP door on real sockets: a server that paints, the example's receiver as a process of its own, and strangers."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from config import load_settings
from factory import service as built
from factory.service import make_service
from proto import atelier_pb2 as pb
from proto import atelier_udp_pb2 as udp
from server.wire.datagrams import Direction, is_signed, read_server, seal
from tests.integration.conftest import address_of, until_ready
from tests.integration.raw_client import RawClient
from tests.quick_painter import QuickPainter

TOKEN = "a-token-of-engines-0123"
EXAMPLE = Path(__file__).parents[2] / "examples" / "udp" / "receive.py"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an engine that needs no model."""
    monkeypatch.setattr(built, "EngineThreads", QuickPainter)


@asynccontextmanager
async def serving(reactor: Any, folder: Path) -> AsyncIterator[tuple[str, int]]:
    """A server; gives where its TCP door is."""
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1", http_listen="off", tokens=f"engine:{TOKEN}", data_dir=folder
    )
    service = make_service(settings, reactor)
    await service.start()
    try:
        await until_ready(address_of(service), TOKEN)
        yield address_of(service)
    finally:
        await service.stop()


class Listener(asyncio.DatagramProtocol):
    """What comes, in order."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[bytes] = asyncio.Queue()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """One."""
        self.heard.put_nowait(data)


async def test_the_example_hears_a_job_to_its_end(reactor: Any, tmp_path: Path) -> None:
    """Key by TCP, subscription by UDP, and a curve at the end."""
    async with serving(reactor, tmp_path / "data") as (host, port):
        client = await RawClient.connect((host, port), TOKEN)
        accepted: Any = (await client.ask(submit=pb.Submit(prompt="a star"))).message
        example = await asyncio.create_subprocess_exec(
            sys.executable, str(EXAMPLE), f"{host}:{port}", "--token", TOKEN, "--job", accepted.job_id,
            "--png", str(tmp_path / "curve.png"), "--seconds", "60",
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await example.communicate()
        await client.close()
    assert (example.returncode, err) == (0, b"")
    assert re.fullmatch(r"succeeded: \d+ datagrams, 0 lost\n", out.decode())
    with Image.open(tmp_path / "curve.png") as curve:
        assert curve.size == (900, 420)


async def test_strangers_and_forgers_hear_nothing_from_a_real_port(reactor: Any, tmp_path: Path) -> None:
    """What comes after all that they sent is the answer to the first that was signed; the end of the server is told."""
    async with serving(reactor, tmp_path / "data") as (host, port):
        client = await RawClient.connect((host, port), TOKEN)
        where: Any = (await client.ask(connect_udp=pb.ConnectUdp())).message
        loop = asyncio.get_running_loop()
        transport, listener = await loop.create_datagram_endpoint(
            Listener, remote_addr=(where.host, where.port), family=socket.AF_INET
        )

        def sealed(sequence: int, cookie: int = 0) -> bytes:
            said = udp.ClientDatagram(sequence=sequence, cookie=cookie, heartbeat=udp.Heartbeat(padding=bytes(20)))
            return seal(said, Direction.CLIENT, where.key_id, where.key)

        for datagram in (b"", b"x", bytes(24), bytes(1200), bytes(1400), sealed(1)[:-1], sealed(1) + b"\0"):
            transport.sendto(datagram)
        transport.sendto(sealed(7))
        challenge = read_server(await listener.heard.get())
        assert challenge is not None
        assert (challenge.answers, challenge.WhichOneof("message")) == (7, "challenge")
        transport.sendto(sealed(7, challenge.challenge.cookie))  # a replay
        transport.sendto(sealed(8, challenge.challenge.cookie))
        alive = await listener.heard.get()
        assert is_signed(alive, Direction.SERVER, where.key)
        said = read_server(alive)
        assert said is not None
        assert (said.answers, said.alive.subscriptions) == (8, 0)
        await client.close()
    evicted = read_server(await listener.heard.get())
    assert evicted is not None
    assert evicted.evicted.code_name == "UNAVAILABLE"
    assert listener.heard.empty()
    transport.close()
