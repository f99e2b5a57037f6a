"""The TCP door: deadlines are absolute, however many bytes come."""

from __future__ import annotations

import struct

import pytest

from proto import atelier_pb2 as pb
from server.errors import Code, Refusal
from tests.server.door import Door, Peer, kinds

STOPPED = Refusal(Code.UNAVAILABLE, "the server has stopped")


async def closed_with(peer: Peer) -> str:
    """The code of the Error and Goodbye that closed it, "" while it is open."""
    heard = await peer.hear()
    if peer.transport.connected:
        assert heard == []
        return ""
    assert kinds(heard) == ["error", "goodbye"]
    assert heard[0].message.code == heard[1].message.code
    return str(pb.ErrorCode.Name(heard[0].message.code))


async def test_a_stranger_has_ten_seconds() -> None:
    """Bytes that trickle in, refused Hellos and garbage gain nothing."""
    door = Door()
    silent, trickling, refused, garbage = (door.connect() for _ in range(4))
    frame = trickling.frame(1, hello=pb.Hello(protocol_version=1, token="x" * 60))
    for second in range(10):
        trickling.transport.deliver(frame[second : second + 1])
        garbage.transport.deliver(struct.pack(">I", 0))
        if second % 5 == 0:
            refused.say(hello=pb.Hello(protocol_version=1, token="wrong"))
        await refused.hear()
        await garbage.hear()
        assert door.tcp.connections == 4
        door.clock.advance(0.999)
    door.clock.advance(0.1)
    for peer in (silent, trickling, refused, garbage):
        assert await closed_with(peer) == "HANDSHAKE_TIMEOUT"
    assert door.tcp.connections == 0
    assert door.clock.getDelayedCalls() == []


async def test_after_welcome_the_handshake_s_deadline_is_gone() -> None:
    """Ten seconds later the connection is there."""
    door = Door()
    peer = await door.client()
    door.clock.advance(11)
    assert (await peer.ask(ping=pb.Ping())).kind == "pong"


async def test_a_begun_frame_has_thirty_seconds() -> None:
    """From its first byte, although more bytes trickle in."""
    door = Door()
    peer = await door.client()
    door.clock.advance(100)
    peer.transport.deliver(struct.pack(">I", 1000))
    for _ in range(29):
        door.clock.advance(1)
        peer.transport.deliver(b"x")
        assert await closed_with(peer) == ""
    door.clock.advance(1.01)
    assert await closed_with(peer) == "FRAME_TIMEOUT"


async def test_a_frame_completed_in_time_starts_the_clock_anew() -> None:
    """Each frame has its own thirty seconds, also when its first bytes came with the end of the one before."""
    door = Door()
    peer = await door.client()
    frame = peer.frame(1, ping=pb.Ping(client_time_us=5))
    peer.transport.deliver(frame[:3])
    for _ in range(4):
        door.clock.advance(29)
        peer.transport.deliver(frame[3:] + frame[:3])
        assert kinds(await peer.hear()) == ["pong"]
    door.clock.advance(30.01)
    assert await closed_with(peer) == "FRAME_TIMEOUT"


async def test_complete_frames_do_not_save_one_that_was_begun_by_their_side() -> None:
    """A deadline belongs to the frame that is incomplete; what trickles in after a whole one counts from its own first byte."""
    door = Door()
    peer = await door.client()
    frame = peer.frame(1, ping=pb.Ping(client_time_us=5))
    peer.transport.deliver(frame + frame[:2])
    await peer.hear()
    door.clock.advance(29)
    peer.transport.deliver(frame[2:3])
    door.clock.advance(1.01)
    assert await closed_with(peer) == "FRAME_TIMEOUT"


async def test_a_quiet_connection_is_closed_after_its_time() -> None:
    """Whole messages keep it, bytes that make none do not, nor does what the server says."""
    door = Door()
    peer = await door.client()
    for _ in range(3):
        door.clock.advance(299)
        assert (await peer.ask(ping=pb.Ping())).kind == "pong"
    _, job_id = await door.job(peer, progress=True)
    for step in range(1, 5):
        door.clock.advance(70)
        door.house.painter.step(job_id, step)
        assert kinds(await peer.hear()) == ["progress"]
    door.clock.advance(21)
    assert await closed_with(peer) == "IDLE_TIMEOUT"
    assert door.house.lifecycle.live == 1, "its job lives on"


async def test_a_refused_message_is_a_message() -> None:
    """Who talks nonsense is not quiet."""
    door = Door()
    peer = await door.client()
    for _ in range(3):
        door.clock.advance(200)
        peer.transport.deliver(struct.pack(">I", 0))
        assert kinds(await peer.hear()) == ["error"]


@pytest.mark.parametrize("end", ["hang up", "abort", "close"])
async def test_an_ended_connection_leaves_no_timer(end: str) -> None:
    """Whoever ended it."""
    door = Door()
    peer = await door.client()
    peer.transport.deliver(b"\x00\x00")
    if end == "hang up":
        peer.transport.hang_up()
    elif end == "abort":
        peer.transport.abortConnection()
    else:
        peer.protocol.close(STOPPED)
        assert kinds(await peer.hear()) == ["goodbye"]
    assert not peer.transport.connected
    assert door.clock.getDelayedCalls() == []
    assert door.tcp.connections == 0


async def test_a_peer_that_does_not_read_its_goodbye_is_cut_off() -> None:
    """After a grace; closing twice says it once."""
    door = Door()
    peer = await door.client()
    peer.protocol.close(STOPPED)
    peer.protocol.close(STOPPED)
    door.clock.advance(1.9)
    assert peer.transport.connected
    door.clock.advance(0.2)
    assert peer.transport.aborted
    assert door.tcp.connections == 0
    assert door.clock.getDelayedCalls() == []


async def test_bytes_after_the_end_are_nobody_s() -> None:
    """What still comes in while the Goodbye goes out is dropped."""
    door = Door()
    peer = await door.client()
    peer.protocol.close(STOPPED)
    peer.protocol.dataReceived(peer.frame(7, submit=pb.Submit(prompt="too late")))
    assert kinds(await peer.hear()) == ["goodbye"]
    assert door.house.lifecycle.live == 0
