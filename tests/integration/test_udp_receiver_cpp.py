"""The receiver in C++, compiled, against a server that a test plays: what is not signed can hold no receiver up."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proto import atelier_pb2 as pb
from proto import atelier_udp_pb2 as udp
from server.wire.datagrams import Direction, read_client, seal, to_all

ROOT = Path(__file__).parents[2]
KEY, KEY_ID = bytes(range(32)), 7
LIVE = "live-1"
NEEDED = [shutil.which("g++"), shutil.which("protoc"), *Path("/usr/include").glob("google/protobuf/message.h")]
NEEDED += Path("/usr/include").glob("openssl/hmac.h")

pytestmark = pytest.mark.skipif(None in NEEDED or len(NEEDED) < 4, reason="g++, protoc, libprotobuf-dev, libssl-dev")


async def _run(folder: Path, *command: str) -> tuple[int | None, str, str]:
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 120)
    return process.returncode, out.decode(errors="replace"), err.decode()


class Door(asyncio.DatagramProtocol):
    """Answers a Subscribe, then says what a test has it say; Alive tells of one subscription until the session has ended."""

    def __init__(self) -> None:
        self.says: Callable[[Callable[[bytes], None]], None] = lambda send: None
        self.heartbeats = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        said = read_client(data)
        assert said is not None
        answer = udp.ServerDatagram(answers=said.sequence)
        if said.HasField("subscribe"):
            answer.subscribed.CopyFrom(udp.Subscribed(live_id=LIVE, next_sequence=1, subscriptions=1))
        else:
            self.heartbeats += 1
            answer.alive.subscriptions = 1 if self.heartbeats == 1 else 0
        self._transport.sendto(seal(answer, Direction.SERVER, KEY_ID, KEY), addr)
        if said.HasField("subscribe") or self.heartbeats == 1:
            self.says(lambda datagram: self._transport.sendto(datagram, addr))


def _forged(send: Callable[[bytes], None]) -> None:
    huge = udp.LiveResult(live_id=LIVE, sequence=1, total=(1 << 32) - 1, values=[1.0])
    beyond = udp.LiveResult(live_id=LIVE, sequence=1, total=1, first_index=1000, values=[1.0])
    for message in (
        udp.ServerDatagram(live_result=huge),
        udp.ServerDatagram(live_result=beyond),
        udp.ServerDatagram(names=udp.Names(live_id=LIVE, first_index=(1 << 32) - 1, names=["x", "y"])),
        udp.ServerDatagram(refused=udp.Refused(code_name="FORGED")),
        udp.ServerDatagram(evicted=udp.Evicted(code_name="FORGED")),
        udp.ServerDatagram(live_result=udp.LiveResult(live_id=LIVE, sequence=1, total=2, values=[0.5, 0.25])),
        udp.ServerDatagram(live_ended=udp.LiveEnded(live_id=LIVE, sequence=2, code_name="OK")),
    ):
        send(to_all(message))


async def test_the_receiver_believes_nothing_that_is_not_signed(tmp_path: Path) -> None:
    """No datagram makes it take gigabytes, or ends it: an end is borne out by an Alive that is signed."""
    source = ROOT / "examples" / "udp" / "cpp" / "receiver.cpp"
    protos = ("-I", str(ROOT / "proto"), "atelier.proto", "atelier_udp.proto")
    assert await _run(tmp_path, "protoc", "--cpp_out=.", *protos) == (0, "", "")
    made = ("atelier.pb.cc", "atelier_udp.pb.cc", "-o", "receiver", "-lprotobuf", "-lcrypto", "-pthread")
    assert await _run(tmp_path, "g++", "-std=c++17", "-O0", "-I.", str(source), *made) == (0, "", "")
    loop = asyncio.get_running_loop()
    transport, door = await loop.create_datagram_endpoint(Door, local_addr=("127.0.0.1", 0))
    door.says = _forged

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        where = pb.UdpAddress(
            host="127.0.0.1", port=transport.get_extra_info("sockname")[1], key_id=KEY_ID, key=KEY, heartbeat_seconds=30
        )
        for answer in (pb.Envelope(welcome=pb.Welcome()), pb.Envelope(udp_address=where)):
            await reader.readexactly(int.from_bytes(await reader.readexactly(4), "big"))
            body = answer.SerializeToString()
            writer.write(len(body).to_bytes(4, "big") + body)
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = str(server.sockets[0].getsockname()[1])
        status, out, err = await _run(tmp_path, "./receiver", "127.0.0.1", port, "", "live", LIVE)
    transport.close()
    assert (status, err) == (0, "")
    assert out.endswith("ended: OK: 1 datagrams, 0 lost\n"), out[-300:]
    assert door.heartbeats == 2  # the first said that there is more to come
