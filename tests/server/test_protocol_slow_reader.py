"""The TCP door: a slow reader is told less, loses no result, and costs no memory."""

from __future__ import annotations

import asyncio

import pytest

from proto import atelier_pb2 as pb
from server.errors import Code, Refusal
from tests.server.door import Door, Heard, Peer, kinds
from tests.server.fakes import settle

_STOPPED = Refusal(Code.UNAVAILABLE, "the server has stopped")
FULL = 200  # bytes: a few progress messages


async def stuffed(door: Door, **wishes: bool | int) -> tuple[Peer, int, str]:
    """A reader whose transport is full of the progress of its one job, which has made steps 1 to 10."""
    peer = await door.client(capacity=FULL)
    number, job_id = await door.job(peer, progress=True, **wishes)
    door.house.painter.start(job_id)
    for step in range(1, 11):
        door.house.painter.step(job_id, step)
        await settle()
    assert peer.transport.full
    return peer, number, job_id


def numbers(heard: list[Heard]) -> list[int]:
    """Of the events among it."""
    return [one.message.event_number for one in heard if one.kind in ("progress", "preview", "result")]


async def test_a_full_transport_is_neither_written_to_nor_read_from() -> None:
    """What the peer asks for meanwhile waits, and is answered when it has read."""
    door = Door()
    peer, _, job_id = await stuffed(door)
    lying = len(peer.transport.outgoing)
    peer.say(77, ping=pb.Ping())
    for step in range(11, 16):
        door.house.painter.step(job_id, step)
    await settle()
    assert len(peer.transport.outgoing) == lying < FULL + 200
    assert not peer.transport.reading
    heard = await peer.hear()
    assert [one.kind for one in heard if one.request_id == 77] == ["pong"]
    assert peer.transport.reading


async def test_progress_is_coalesced_to_the_latest() -> None:
    """What was overtaken is never sent; numbers stay in order."""
    door = Door()
    peer, _, job_id = await stuffed(door)
    lying = numbers(peer.glance())
    for step in range(11, 20):
        door.house.painter.step(job_id, step)
    heard = lying + numbers(await peer.hear())
    assert heard == sorted(set(heard))
    assert len(heard) < 19
    assert heard[-1] == 19


async def test_previews_are_coalesced_to_the_latest_of_each_image() -> None:
    """So a reader that comes back sees what each picture is now."""
    door = Door()
    peer, _, job_id = await stuffed(door, preview_every_steps=1, num_images=2)
    for step in range(11, 20):
        for image in (0, 1):
            door.house.painter.preview(job_id, image, step)
            await settle()
    peer.glance()
    heard = [one for one in await peer.hear() if one.kind == "preview"]
    assert [(one.message.image_index, one.message.step) for one in heard] == [(0, 19), (1, 19)]


async def test_a_result_is_never_lost() -> None:
    """It waits behind a full transport as long as the connection lives."""
    door = Door()
    peer, number, job_id = await stuffed(door)
    door.house.painter.finish(job_id)
    await settle()
    door.clock.advance(59)
    heard = await peer.hear()
    assert [(one.kind, one.request_id) for one in heard][-1] == ("result", number)


async def test_no_picture_is_read_for_a_reader_that_is_full() -> None:
    """Pieces are fetched one at a time, each when the one before has left."""
    door = Door(chunk_bytes=100)
    peer, _, job_id = await stuffed(door, inline_pictures=True)
    door.house.painter.finish(job_id)
    await settle()
    assert door.house.artifacts.reads == []
    while not any(one.kind == "result" for one in peer.glance()):
        before = len(door.house.artifacts.reads)
        await settle()
        assert len(door.house.artifacts.reads) - before <= 1 + FULL // 100
        assert len(peer.transport.outgoing) < FULL + 400
    assert len(door.house.artifacts.reads) > 1


async def test_a_thousand_jobs_steps_take_no_more_memory_than_a_few() -> None:
    """What lies in the transport is bounded, whatever the engine says and however long nobody reads."""
    door = Door(max_requests=1000)
    peer = await door.client(capacity=FULL)
    jobs = [(await door.job(peer, progress=True))[1] for _ in range(5)]
    for job_id in jobs:
        door.house.painter.start(job_id)
    for step in range(1, 20):
        for job_id in jobs:
            door.house.painter.step(job_id, step)
    await settle()
    assert peer.transport.most_outgoing < FULL + 200


async def test_requests_of_a_reader_that_is_full_stay_in_its_own_system() -> None:
    """A client that asks and never reads is not listened to: its answers fill no memory here."""
    door = Door()
    peer = await door.client(capacity=FULL)
    peer.transport.deliver(b"".join(peer.frame(number, ping=pb.Ping()) for number in range(1, 2000)))
    await settle()
    assert peer.transport.most_outgoing < FULL + 100
    answered = await peer.hear()
    assert [one.request_id for one in answered] == list(range(1, 2000))


async def test_who_stays_full_too_long_is_cut_off_and_the_job_lives() -> None:
    """It can be watched again from another connection, from where the first one was."""
    door = Door()
    peer, _, job_id = await stuffed(door)
    door.clock.advance(59)
    assert peer.transport.connected
    door.clock.advance(2)
    assert peer.transport.aborted
    assert door.tcp.connections == 0
    assert door.clock.getDelayedCalls() == []
    assert door.house.painter.cancels == []
    other = await door.client()
    other.say(watch=pb.Watch(job_id=job_id, from_event=10, progress=True))
    await settle()
    door.house.painter.step(job_id, 11)
    door.house.painter.finish(job_id)
    assert kinds(await other.hear())[-2:] == ["progress", "result"]


async def test_who_reads_on_in_time_starts_the_clock_anew() -> None:
    """Only an unbroken time of not reading counts."""
    door = Door()
    peer, _, job_id = await stuffed(door)
    for step in range(11, 15):
        door.clock.advance(59)
        peer.glance()
        for _ in range(20):
            door.house.painter.step(job_id, step)
            await settle()
        assert peer.transport.full
    assert peer.transport.connected


async def test_a_frame_begun_before_a_pause_is_not_late_because_of_it() -> None:
    """While we do not listen the peer cannot be on time; afterwards the rest of its thirty seconds is left."""
    door = Door()
    peer = await door.client(capacity=FULL)
    number, job_id = await door.job(peer, progress=True)
    frame = peer.frame(500, ping=pb.Ping(client_time_us=3))
    peer.transport.deliver(frame[:4])
    door.house.painter.start(job_id)
    door.clock.advance(10)
    for step in range(1, 20):
        door.house.painter.step(job_id, step)
        await settle()
    assert peer.transport.full
    door.clock.advance(50)
    await peer.hear()
    door.clock.advance(19)
    peer.transport.deliver(frame[4:-1])
    assert await peer.hear() == []
    door.clock.advance(1.1)
    assert kinds(await peer.hear()) == ["error", "goodbye"]
    assert number


@pytest.mark.parametrize("idle", [30.0])
async def test_a_peer_that_was_not_listened_to_is_not_idle(idle: float) -> None:
    """Its pings lay in the system while its transport was full; they count when it has read."""
    door = Door(idle_timeout=idle)
    peer, _, _ = await stuffed(door)
    peer.say(77, ping=pb.Ping())
    door.clock.advance(45)
    assert peer.transport.connected
    assert [one.kind for one in await peer.hear() if one.request_id == 77] == ["pong"]


async def test_a_full_transport_does_not_hold_up_others() -> None:
    """The same job's other watchers hear every step."""
    door = Door()
    _, _, job_id = await stuffed(door)
    other = await door.client()
    other.say(watch=pb.Watch(job_id=job_id, from_event=11, progress=True))
    await settle()
    for step in range(11, 15):
        door.house.painter.step(job_id, step)
        assert kinds(await other.hear())[-1:] == ["progress"]


async def test_a_reader_that_is_full_is_told_goodbye_too() -> None:
    """As far as it reads; it is cut off after the grace."""
    door = Door()
    peer, _, job_id = await stuffed(door)
    door.house.lifecycle.cancel(job_id)
    await settle()
    closing = asyncio.ensure_future(door.tcp.close_all(_STOPPED))
    await settle()
    heard = await peer.hear()
    assert kinds(heard)[-2:] == ["canceled", "goodbye"]
    await closing
