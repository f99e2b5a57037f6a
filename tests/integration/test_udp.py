"""The UDP door on real sockets: a server that paints, the example's receiver as a process of its own, and strangers."""

from __future__ import annotations

import asyncio
import itertools
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
async def serving(reactor: Any, folder: Path, **more: Any) -> AsyncIterator[tuple[str, int]]:
    """A server; gives where its TCP door is."""
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1", http_listen="off", tokens=f"engine:{TOKEN}", data_dir=folder, **more
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


@pytest.mark.parametrize("group", ["239.192.7.1", "127.255.255.255"])
async def test_a_group_s_members_hear_a_live_session(reactor: Any, tmp_path: Path, group: str) -> None:
    """Multicast and broadcast, on loopback: real datagrams from the server's socket to one that has only joined the group."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as member:
        member.setblocking(False)
        member.bind(("", 0))
        if group.startswith("239."):
            here = socket.inet_aton(group) + socket.inet_aton("127.0.0.1")
            member.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, here)
        where = f"{group}:{member.getsockname()[1]}"
        async with serving(reactor, tmp_path / "data", udp_group=where, stream_spare=False) as address:
            await asyncio.wait_for(_hear_in_group(address, member), 100)


async def _hear_in_group(address: tuple[str, int], member: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    client = await RawClient.connect(address, TOKEN)
    live: Any = (await client.ask(open_live=pb.OpenLive(model="stream-demo"))).message
    door: Any = (await client.ask(connect_udp=pb.ConnectUdp())).message
    transport, listener = await loop.create_datagram_endpoint(
        Listener, remote_addr=(door.host, door.port), family=socket.AF_INET
    )
    cookie = 0
    for sequence, expected in ((1, "challenge"), (2, "subscribed")):
        wanted = udp.Subscribe(live_id=live.live_id, to_group=True)
        said = udp.ClientDatagram(sequence=sequence, cookie=cookie, subscribe=wanted)
        transport.sendto(seal(said, Direction.CLIENT, door.key_id, door.key))
        answer = read_server(await listener.heard.get())
        assert answer is not None
        assert answer.WhichOneof("message") == expected
        cookie = answer.challenge.cookie
    sending = asyncio.ensure_future(_send(client, live))
    kinds: dict[str, udp.ServerDatagram] = {}
    while kinds.keys() < {"live_result", "names"}:
        said_to_all = read_server(await loop.sock_recv(member, 2048))
        assert said_to_all is not None
        kinds[str(said_to_all.WhichOneof("message"))] = said_to_all
    sending.cancel()
    result, names = kinds["live_result"].live_result, kinds["names"].names
    assert (result.live_id, len(result.values)) == (live.live_id, len(live.outputs))
    assert (names.live_id, list(names.names)) == (live.live_id, list(live.outputs))
    while not listener.heard.empty():  # its own address is told the names, signed, and no result
        told = read_server(listener.heard.get_nowait())
        assert told is not None
        assert told.WhichOneof("message") == "names"
    transport.close()
    await client.close()


async def _send(client: RawClient, live: Any) -> None:
    for number in itertools.count(1):
        client.say(live_frame=pb.LiveFrame(live_id=live.live_id, number=number, values=[0.5] * len(live.inputs)))
        await asyncio.sleep(0.05)


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
