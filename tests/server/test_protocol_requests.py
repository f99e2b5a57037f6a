"""The TCP door: many requests on one connection, each answered, none in another's way."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import Any

import pytest

from proto import atelier_pb2 as pb
from server.commands import GetJob, ListModels, Ping, Submit, Watch
from server.incoming import INCOMING, Incoming
from server.replies import ModelList, ModelState, ModelView
from server.wire.stream import JobStream
from tests.server.door import Door, kinds
from tests.server.fakes import CARD, TEXT_CARD, HoldingPool, picture_key, settle
from tests.server.house import BOB, TOKENS, House
from tests.server.pictures import a_png

BOBS_TOKEN = TOKENS[BOB].get_secret_value()


async def test_every_request_is_answered_under_its_number() -> None:
    """Each by its own kind of message."""
    door = Door()
    peer = await door.client()
    _, job_id = await door.job(peer)
    for message, kind in (
        ({"ping": pb.Ping(client_time_us=5)}, "pong"),
        ({"get_job": pb.GetJob(job_id=job_id)}, "job"),
        ({"list_models": pb.ListModels()}, "models"),
        ({"get_server_status": pb.GetServerStatus()}, "server_status"),
        ({"watch": pb.Watch(job_id=job_id)}, "accepted"),
    ):
        assert (await peer.ask(**message)).kind == kind
    number = peer.say(cancel=pb.Cancel(job_id=job_id))
    assert ("cancel_requested", number) in [(heard.kind, heard.request_id) for heard in await peer.hear()]


async def test_a_job_is_told_from_accepted_to_result() -> None:
    """In order, under the request's number, and nothing after it."""
    door = Door()
    peer = await door.client()
    number, job_id = await door.job(peer, progress=True, preview_every_steps=1)
    painter = door.house.painter
    painter.start(job_id)
    painter.step(job_id, 1)
    heard = await peer.hear()
    painter.preview(job_id, 0, 1)
    heard += await peer.hear()
    painter.finish(job_id)
    heard += await peer.hear()
    assert kinds(heard) == ["progress", "preview", "progress", "result"]
    assert {one.request_id for one in heard} == {number}
    assert [one.message.event_number for one in heard] == [1, 2, 3, 4]
    assert heard[-1].message.artifacts[0].key == picture_key(job_id)
    assert await peer.hear() == []


async def test_without_wishes_only_beginning_and_end_are_told() -> None:
    """No progress, no previews, no pictures."""
    door = Door()
    peer = await door.client()
    _, job_id = await door.job(peer)
    door.house.painter.start(job_id)
    door.house.painter.preview(job_id, 0, 1)
    door.house.painter.step(job_id, 1)
    door.house.painter.finish(job_id)
    assert kinds(await peer.hear()) == ["result"]
    assert door.house.artifacts.reads == []


async def test_many_jobs_at_once_are_told_in_turn() -> None:
    """A message of each, so that none waits for another's end."""
    door = Door()
    peer = await door.client()
    jobs = [await door.job(peer, progress=True) for _ in range(4)]
    for _, job_id in jobs:
        door.house.painter.paint(job_id)
    heard = await peer.hear()
    assert {one.request_id for one in heard if one.kind == "result"} == {number for number, _ in jobs}


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        ({"submit": pb.Submit()}, pb.INVALID_PARAMETER, "prompt"),
        ({"submit": pb.Submit(prompt="x", width=100)}, pb.INVALID_PARAMETER, "width"),
        ({"submit": pb.Submit(prompt="x", guidance_scale=float("nan"))}, pb.INVALID_PARAMETER, "guidance_scale"),
        ({"submit": pb.Submit(prompt="x", model="nope")}, pb.MODEL_NOT_FOUND, "model"),
        ({"cancel": pb.Cancel(job_id="nope")}, pb.JOB_NOT_FOUND, "job_id"),
        ({"watch": pb.Watch(job_id="nope")}, pb.JOB_NOT_FOUND, "job_id"),
        ({"get_job": pb.GetJob(job_id="nope")}, pb.JOB_NOT_FOUND, "job_id"),
        ({"pong": pb.Pong()}, pb.UNEXPECTED_MESSAGE, ""),
        ({"request_id": 0, "ping": pb.Ping()}, pb.INVALID_PARAMETER, "request_id"),
    ],
)
async def test_a_refusal_is_one_error_and_the_connection_goes_on(message: Any, code: int, field: str) -> None:
    """With code and field, under the request's number."""
    door = Door()
    peer = await door.client()
    error = await peer.ask(**message)
    assert (error.kind, error.message.code, error.message.field) == ("error", code, field)
    assert (await peer.ask(ping=pb.Ping())).kind == "pong"
    assert door.house.lifecycle.live == 0


async def test_another_owner_s_job_is_not_found() -> None:
    """Nor cancelled, nor counted."""
    door = Door()
    _, job_id = await door.job(await door.client())
    bob = await door.client(BOBS_TOKEN)
    for message in (
        {"cancel": pb.Cancel(job_id=job_id)},
        {"watch": pb.Watch(job_id=job_id)},
        {"get_job": pb.GetJob(job_id=job_id)},
    ):
        assert (await bob.ask(**message)).message.code == pb.JOB_NOT_FOUND
    assert door.house.painter.cancels == []


@pytest.mark.parametrize("command", [Ping, ListModels, Submit, Watch, GetJob])
async def test_a_handler_that_breaks_costs_its_request_alone(command: Any) -> None:
    """INTERNAL_ERROR, without the words of our mistake; everything else goes on."""
    house = House()
    broken = house.handlers[command]

    def fails(_: object) -> object:
        raise ZeroDivisionError("/secret/path")

    async def fails_later(_: object) -> object:
        await asyncio.sleep(0)
        return fails(_)

    house.handlers[command] = fails_later if asyncio.iscoroutinefunction(type(broken).__call__) else fails
    peer = await Door(house).client()
    messages: dict[Any, dict[str, Any]] = {
        Ping: {"ping": pb.Ping()},
        ListModels: {"list_models": pb.ListModels()},
        Submit: {"submit": pb.Submit(prompt="x")},
        Watch: {"watch": pb.Watch(job_id="x")},
        GetJob: {"get_job": pb.GetJob(job_id="x")},
    }
    for _ in range(8):  # more than may be under way at once: none is held for ever
        error = await peer.ask(**messages[command])
        assert error.message.code == pb.INTERNAL_ERROR
        assert "secret" not in error.message.message
    assert (await peer.ask(get_server_status=pb.GetServerStatus())).kind == "server_status"


async def test_an_answer_that_cannot_be_encoded_costs_its_request_alone() -> None:
    """INTERNAL_ERROR, and the connection lives."""
    house = House()
    house.connections = -1  # no uint32
    peer = await Door(house).client()
    assert (await peer.ask(get_server_status=pb.GetServerStatus())).message.code == pb.INTERNAL_ERROR
    assert (await peer.ask(ping=pb.Ping())).kind == "pong"


async def test_an_answer_too_large_for_a_frame_costs_its_request_alone() -> None:
    """It is told as our mistake, and the connection lives."""
    house = House()
    card = replace(CARD, description="x" * (1 << 20))
    house.handlers[ListModels] = lambda _: ModelList((ModelView(card, ModelState.READY),))
    peer = await Door(house).client()
    assert (await peer.ask(list_models=pb.ListModels())).message.code == pb.INTERNAL_ERROR
    assert (await peer.ask(ping=pb.Ping())).kind == "pong"


async def test_a_number_under_way_may_not_be_used_again() -> None:
    """The second request is refused under it, the first goes on; once ended, the number is free."""
    door = Door()
    peer = await door.client()
    number, job_id = await door.job(peer)
    for message in ({"submit": pb.Submit(prompt="x")}, {"watch": pb.Watch(job_id=job_id)}):
        error = await peer.ask(number, **message)
        assert (error.message.code, error.message.field) == (pb.INVALID_PARAMETER, "request_id")
    assert door.house.lifecycle.live == 1
    door.house.painter.paint(job_id)
    assert kinds(await peer.hear()) == ["result"]
    assert (await peer.ask(number, submit=pb.Submit(prompt="x"))).kind == "accepted"


async def test_a_number_whose_handler_is_at_work_may_not_be_used_again() -> None:
    """Also before it is accepted."""
    pool = HoldingPool()
    door = Door(House(admission_pool=pool))
    peer = await door.client()
    submit = pb.Submit(prompt="x", signature=pb.Signature(image=a_png()))
    peer.say(9, submit=submit)
    assert (await peer.ask(9, submit=submit)).message.field == "request_id"
    pool.gate.set()
    assert kinds(await peer.hear()) == ["accepted"]


async def test_requests_under_way_are_limited() -> None:
    """The sixth of five is refused with RESOURCE_EXHAUSTED and a time; what needs no waiting is answered all the same."""
    door = Door()
    peer = await door.client()
    jobs = [await door.job(peer) for _ in range(5)]
    error = await peer.ask(submit=pb.Submit(prompt="x"))
    assert (error.message.code, error.message.limit) == (pb.RESOURCE_EXHAUSTED, "5 requests")
    assert error.message.retry_after_seconds > 0
    assert (await peer.ask(ping=pb.Ping())).kind == "pong"
    door.house.painter.paint(jobs[0][1])
    assert kinds(await peer.hear()) == ["result"]
    await door.job(peer)


async def test_a_repeated_submit_follows_the_same_job() -> None:
    """On the same connection or another, live or ended; the asker is told that it is a duplicate."""
    door = Door()
    peer, other = await door.client(), await door.client()
    submit = pb.Submit(prompt="x", idempotency_key="key")
    first = await peer.ask(submit=submit)
    assert not first.message.duplicate
    for again in (peer, other):
        accepted = await again.ask(submit=submit)
        assert (accepted.message.job_id, accepted.message.duplicate) == (first.message.job_id, True)
    door.house.painter.paint(first.message.job_id)
    assert kinds(await peer.hear()) == ["result", "result"]
    assert kinds(await other.hear()) == ["result"]
    number = other.say(submit=submit)
    assert [(one.kind, one.request_id) for one in await other.hear()] == [("accepted", number), ("result", number)]


async def test_a_job_is_watched_again_from_where_one_left() -> None:
    """From the next event on, without what was heard before; an ended job tells its end."""
    door = Door()
    peer = await door.client()
    _, job_id = await door.job(peer, progress=True)
    painter = door.house.painter
    painter.start(job_id)
    painter.step(job_id, 1)
    assert [one.message.event_number for one in await peer.hear()] == [1]
    peer.transport.hang_up()
    painter.step(job_id, 2)
    painter.step(job_id, 3)
    other = await door.client()
    number = other.say(watch=pb.Watch(job_id=job_id, from_event=2, progress=True))
    painter.step(job_id, 4)
    heard = await other.hear()
    assert [one.message.event_number for one in heard] == [3, 4] or [one.message.event_number for one in heard] == [4]
    painter.finish(job_id)
    end = (await other.hear())[-1]
    assert (end.kind, end.request_id) == ("result", number)
    again = other.say(watch=pb.Watch(job_id=job_id, from_event=99))
    (told,) = await other.hear()
    assert (told.kind, told.request_id) == ("result", again)
    assert told.message == end.message


async def test_requests_in_one_packet_are_all_answered() -> None:
    """And one that is cut in two, when its rest has come."""
    peer = await Door().client()
    frames = b"".join(peer.frame(number, ping=pb.Ping(client_time_us=number)) for number in range(1, 6))
    peer.transport.deliver(frames[:-3])
    assert [one.request_id for one in await peer.hear()] == [1, 2, 3, 4]
    peer.transport.deliver(frames[-3:])
    assert [one.request_id for one in await peer.hear()] == [5]


def streams() -> list[JobStream]:
    """Every one that something still holds."""
    gc.collect()
    # By type and not isinstance, which asks every object for its class: some library's warn of themselves when asked.
    return [one for one in gc.get_objects() if type(one) is JobStream]


async def test_what_a_connection_follows_is_let_go_when_it_ended() -> None:
    """Nothing holds on to a request that was answered to its end, while the connection lives."""
    door = Door()
    peer = await door.client()
    before = len(streams())
    for _ in range(3):
        _, job_id = await door.job(peer, progress=True, inline_pictures=True)
        door.house.painter.paint(job_id)
        assert kinds(await peer.hear())[-1] == "result"
    await settle()
    assert len(streams()) == before
    assert (await peer.ask(ping=pb.Ping())).kind == "pong"


async def test_a_caller_s_trace_comes_with_its_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever traces jobs is told of it, a Predict's too; the next job has none, nor one with what cannot be one."""
    door = Door(House(cards=(CARD, TEXT_CARD)))
    peer = await door.client()
    told: list[Incoming] = []
    whole = door.house.store.admit

    async def admit(*given: Any, **more: Any) -> Any:
        told.append(INCOMING.get())
        return await whole(*given, **more)

    monkeypatch.setattr(door.house.store, "admit", admit)
    caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    for traceparent in (caller, "", "x" * 1000):
        await door.job(peer, traceparent=traceparent)
    number = peer.say(predict=pb.Predict(model="words", traceparent=caller))
    assert [one.kind for one in await peer.hear() if one.request_id == number] == ["accepted"]
    expected = [("tcp", caller), ("tcp", ""), ("tcp", ""), ("tcp", caller)]
    assert [(one.door, one.traceparent) for one in told] == expected
