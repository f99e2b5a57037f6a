"""The TCP door: what becomes of a connection's jobs when it ends, and of connections when the server does."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from proto import atelier_pb2 as pb
from server.errors import Code, Refusal
from server.job import JobState
from tests.server.door import Door, kinds
from tests.server.fakes import HoldingPool, Recorder, picture_key, settle
from tests.server.house import House
from tests.server.pictures import a_png

STOPPED = Refusal(Code.UNAVAILABLE, "the server has stopped")


async def watched(door: Door, job_id: str) -> Recorder:
    """Someone else who follows the job."""
    watcher = Recorder()
    await door.house.board.follow(job_id, watcher)
    return watcher


@pytest.mark.parametrize("end", ["hang up", "abort"])
async def test_a_job_that_asked_for_it_goes_with_its_connection(end: str) -> None:
    """And only that one."""
    door = Door()
    peer = await door.client()
    _, goes = await door.job(peer, cancel_on_disconnect=True)
    _, stays = await door.job(peer)
    watchers = [await watched(door, goes), await watched(door, stays)]
    if end == "hang up":
        peer.transport.hang_up()
    else:
        peer.transport.abortConnection()
    await settle()
    assert watchers[0].kinds[-1] == "Canceled"
    assert not watchers[1].ended
    assert door.house.painter.cancels == [goes]


@pytest.mark.parametrize("cancel_on_disconnect", [True, False])
async def test_a_connection_lost_while_its_job_is_admitted(cancel_on_disconnect: bool) -> None:
    """An accepted job is accepted; it is cancelled only if that was asked for."""
    pool = HoldingPool()
    door = Door(House(admission_pool=pool))
    peer = await door.client()
    peer.say(
        submit=pb.Submit(prompt="x", signature=pb.Signature(image=a_png()), cancel_on_disconnect=cancel_on_disconnect)
    )
    await settle()
    peer.transport.hang_up()
    pool.gate.set()
    await settle()
    job = await door.house.kept("job-1")
    assert job.state.value == ("canceled" if cancel_on_disconnect else "queued")
    assert door.clock.getDelayedCalls() == []


async def test_a_watcher_s_end_is_nothing_to_the_job() -> None:
    """Whatever the job's own connection asked for."""
    door = Door()
    peer, other = await door.client(), await door.client()
    _, job_id = await door.job(peer, cancel_on_disconnect=True)
    await other.ask(watch=pb.Watch(job_id=job_id))
    other.transport.hang_up()
    await settle()
    assert door.house.painter.cancels == []


async def test_an_ended_job_is_not_cancelled_by_a_connection_s_end() -> None:
    """Nor is an error made of it when it is long forgotten."""
    door = Door()
    peer = await door.client()
    _, job_id = await door.job(peer, cancel_on_disconnect=True)
    door.house.painter.paint(job_id)
    assert kinds(await peer.hear()) == ["result"]
    peer.transport.hang_up()
    await settle()
    assert (await door.house.kept(job_id)).state.value == "succeeded"


async def test_a_lost_connection_watches_nothing_more() -> None:
    """Its jobs go on unobserved, and nothing is written to it."""
    door = Door()
    peer = await door.client()
    _, job_id = await door.job(peer, progress=True)
    peer.transport.hang_up()
    door.house.painter.paint(job_id)
    await settle()
    assert peer.transport.outgoing == b""
    assert (await door.house.kept(job_id)).state.value == "succeeded"


@pytest.mark.parametrize("inline", [True, False])
async def test_a_stopping_server_lets_results_leave(inline: bool) -> None:
    """The picture of a job that ended with the drain is sent whole, then its result, then Goodbye."""
    door = Door(chunk_bytes=64)
    peer, idle = await door.client(), await door.client()
    _, job_id = await door.job(peer, inline_pictures=inline)
    draining = asyncio.ensure_future(door.house.lifecycle.drain(30))
    await settle()
    door.house.painter.paint(job_id)
    await draining
    closing = asyncio.ensure_future(door.tcp.close_all(STOPPED))
    heard = await peer.hear()
    assert kinds(heard)[-2:] == ["result", "goodbye"]
    data = b"".join(one.message.data for one in heard if one.kind == "chunk")
    assert data == (door.house.artifacts.stored[picture_key(job_id)] if inline else b"")
    assert kinds(await idle.hear()) == ["goodbye"]
    await settle()
    assert closing.done()
    assert door.tcp.connections == 0
    assert door.clock.getDelayedCalls() == []


async def test_a_job_whose_admission_is_under_way_is_answered_before_goodbye() -> None:
    """Accepted, and it is in the records for the next life, though the server stops."""
    pool = HoldingPool()
    door = Door(House(admission_pool=pool))
    peer = await door.client()
    peer.say(submit=pb.Submit(prompt="x", signature=pb.Signature(image=a_png())))
    await settle()
    door.house.health.drain()
    await door.house.lifecycle.drain(30)
    closing = asyncio.ensure_future(door.tcp.close_all(STOPPED))
    await settle()
    pool.gate.set()
    heard = await peer.hear()
    assert kinds(heard)[-1] == "goodbye"
    assert kinds(heard) == ["accepted", "goodbye"]
    assert (await door.house.kept(heard[0].message.job_id)).state is JobState.QUEUED
    await settle()
    assert closing.done()


async def gone(door: Door, closing: asyncio.Future[Any]) -> bool:
    """Whether everyone is gone after the graces; if not, the waiting is given up."""
    for _ in range(4):
        door.clock.advance(5)
        await settle()
    if not closing.done():
        closing.cancel()
        return False
    return True


async def test_a_stopping_server_waits_for_nobody_who_does_not_read() -> None:
    """After its graces the connection is cut."""
    door = Door(chunk_bytes=64)
    peer = await door.client(capacity=100)
    _, job_id = await door.job(peer, inline_pictures=True)
    door.house.painter.paint(job_id)
    await settle()
    closing = asyncio.ensure_future(door.tcp.close_all(STOPPED))
    await settle()
    assert not closing.done()
    assert await gone(door, closing)
    assert peer.transport.aborted


async def test_a_stopping_server_waits_for_nobody_who_was_told_goodbye_before() -> None:
    """A connection that is already closing, and whose peer does not read, is cut all the same."""
    door = Door()
    peer = await door.client()
    peer.protocol.close(Refusal(Code.IDLE_TIMEOUT, "too quiet"))
    closing = asyncio.ensure_future(door.tcp.close_all(STOPPED))
    await settle()
    assert await gone(door, closing)
    assert peer.transport.aborted


async def test_a_stopping_server_waits_for_no_storage_that_does_not_answer() -> None:
    """The picture stays stored; the reader is told goodbye."""
    door = Door(chunk_bytes=64)
    peer = await door.client()
    _, job_id = await door.job(peer, inline_pictures=True)
    door.house.painter.start(job_id)
    await settle()
    door.house.painter.finish(job_id)
    for _ in range(200):
        if door.house.artifacts.stored:
            break
        await asyncio.sleep(0)
    door.house.artifacts.gate = asyncio.Event()
    await settle()
    closing = asyncio.ensure_future(door.tcp.close_all(STOPPED))
    await settle()
    door.clock.advance(5.1)
    await settle()
    assert kinds(await peer.hear())[-1] == "goodbye"
    assert await gone(door, closing)
    door.house.artifacts.gate.set()
    await settle()


async def test_a_peer_that_goes_on_talking_does_not_hold_up_the_stop() -> None:
    """A frame begun, new requests, a pause: the grace is the same."""
    door = Door()
    peer = await door.client()
    _, job_id = await door.job(peer, progress=True)
    door.house.painter.start(job_id)
    closing = asyncio.ensure_future(door.tcp.close_all(STOPPED))
    await settle()
    peer.say(submit=pb.Submit(prompt="x"))
    peer.transport.deliver(b"\x00")
    peer.protocol.pauseProducing()
    door.clock.advance(3)
    peer.protocol.resumeProducing()
    await settle()
    door.clock.advance(2.1)
    assert kinds(await peer.hear())[-1] == "goodbye"
    assert await gone(door, closing)
