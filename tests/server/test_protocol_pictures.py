"""The TCP door: pictures travel in pieces, and hold up nobody."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from proto import atelier_pb2 as pb
from tests.server.door import Door, Heard, kinds
from tests.server.fakes import picture_key
from tests.server.house import House
from tests.server.pictures import a_png

CHUNK = 1024


def pieces(heard: list[Heard], request_id: int, image_index: int = 0) -> bytes:
    """A picture put together; its pieces must come in order, without gaps, none larger than allowed."""
    data = b""
    for one in heard:
        if one.kind == "chunk" and (one.request_id, one.message.image_index) == (request_id, image_index):
            assert one.message.offset == len(data)
            assert 0 < len(one.message.data) <= CHUNK
            data += one.message.data
    return data


@pytest.fixture
def door() -> Door:
    """With pieces so small that every picture takes several."""
    return Door(chunk_bytes=64)


async def test_a_picture_comes_in_pieces_before_its_result() -> None:
    """Put together they are the stored file to the byte."""
    door = Door(chunk_bytes=50)
    peer = await door.client()
    number, job_id = await door.job(peer, inline_pictures=True, num_images=2)
    door.house.painter.paint(job_id)
    heard = await peer.hear()
    assert set(kinds(heard)[:-1]) == {"chunk"}
    result = heard[-1]
    assert result.kind == "result"
    for artifact in result.message.artifacts:
        png = pieces(heard, number, artifact.image_index)
        assert hashlib.sha256(png).hexdigest() == artifact.sha256
        assert png == door.house.artifacts.stored[artifact.key]
        assert len(png) > 50
    assert all(len(one.message.data) <= 50 for one in heard[:-1])
    assert {one.message.size for one in heard[:-1]} == {artifact.size for artifact in result.message.artifacts}


async def test_one_piece_at_a_time_is_read_from_the_storage(door: Door) -> None:
    """However many jobs of the connection are done at once; no piece is read twice."""
    peer = await door.client()
    jobs = [await door.job(peer, inline_pictures=True) for _ in range(3)]
    artifacts = door.house.artifacts
    for _, job_id in jobs:
        door.house.painter.paint(job_id)
        for _ in range(200):
            if picture_key(job_id) in artifacts.stored:
                break
            await asyncio.sleep(0)
    gate = artifacts.gate = asyncio.Event()
    heard = await peer.hear()
    gate.set()
    heard += await peer.hear()
    assert artifacts.most_reading == 1
    assert len(door.house.artifacts.reads) == len(set(door.house.artifacts.reads))
    for number, job_id in jobs:
        assert pieces(heard, number) == door.house.artifacts.stored[picture_key(job_id)]


async def test_pictures_of_several_jobs_take_turns(door: Door) -> None:
    """The second does not wait for the whole of the first."""
    peer = await door.client()
    jobs = [await door.job(peer, inline_pictures=True) for _ in range(2)]
    for _, job_id in jobs:
        door.house.painter.paint(job_id)
    order = [one.request_id for one in await peer.hear() if one.kind == "chunk"]
    first_of_second = order.index(jobs[1][0])
    assert jobs[0][0] in order[first_of_second:]


async def test_progress_passes_a_picture_on_its_way(door: Door) -> None:
    """While a piece is being read the other jobs are told."""
    peer = await door.client()
    _, done = await door.job(peer, inline_pictures=True)
    number, running = await door.job(peer, progress=True)
    door.house.artifacts.gate = asyncio.Event()
    door.house.artifacts.gate.set()
    door.house.painter.start(running)
    door.house.painter.paint(done)
    door.house.artifacts.gate.clear()
    assert [one for one in await peer.hear() if one.kind == "result"] == []
    door.house.painter.step(running, 1)
    told = await peer.hear()
    assert [(one.kind, one.request_id) for one in told] == [("progress", number)]
    door.house.artifacts.gate.set()
    assert kinds(await peer.hear())[-1] == "result"


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), ValueError("not a key"), KeyError("gone")])
async def test_a_picture_that_cannot_be_read_back_is_told_in_the_result(door: Door, error: Exception) -> None:
    """The result comes all the same, with a warning; later pictures of the connection are sent as ever."""
    peer = await door.client()
    _, job_id = await door.job(peer, inline_pictures=True, num_images=2)
    door.house.artifacts.read_error = error
    door.house.painter.paint(job_id)
    (result,) = await peer.hear()
    assert result.kind == "result"
    assert len(result.message.warnings) == 2
    assert "picture 0 could not be read back" in result.message.warnings[0]
    door.house.artifacts.read_error = None
    number, job_id = await door.job(peer, inline_pictures=True)
    door.house.painter.paint(job_id)
    assert pieces(await peer.hear(), number) == door.house.artifacts.stored[picture_key(job_id)]


async def test_a_stored_picture_that_became_shorter_is_told_in_the_result(door: Door) -> None:
    """It is not waited for."""
    peer = await door.client()
    _, job_id = await door.job(peer, inline_pictures=True)
    artifacts = door.house.artifacts
    artifacts.gate = asyncio.Event()
    artifacts.gate.set()
    artifacts.read_error = None
    door.house.painter.start(job_id)
    original = artifacts.read

    async def shortened(key: str, offset: int, size: int) -> bytes:
        return (await original(key, offset, size))[:-1]

    artifacts.read = shortened  # type: ignore[method-assign]
    door.house.painter.finish(job_id)
    result = (await peer.hear())[-1]
    assert result.kind == "result"
    assert "shorter than it was" in result.message.warnings[0]


async def test_a_connection_lost_in_mid_picture_leaves_nothing_behind(door: Door) -> None:
    """The piece that was being read is dropped."""
    peer = await door.client()
    _, job_id = await door.job(peer, inline_pictures=True)
    door.house.painter.start(job_id)
    gate = asyncio.Event()
    door.house.painter.finish(job_id)
    door.house.artifacts.gate = gate
    gate.set()
    gate.clear()
    peer.transport.hang_up()
    gate.set()
    await peer.hear()
    assert door.tcp.connections == 0
    assert door.clock.getDelayedCalls() == []


async def test_a_signed_picture_is_the_one_that_was_stored() -> None:
    """With the signature image that the request brought."""
    door = Door(House())
    peer = await door.client()
    number, job_id = await door.job(
        peer, inline_pictures=True, width=256, height=256, signature=pb.Signature(image=a_png())
    )
    door.house.painter.paint(job_id)
    heard = await peer.hear()
    assert pieces(heard, number) == door.house.artifacts.stored[picture_key(job_id)]
    assert list(heard[-1].message.warnings) == []
