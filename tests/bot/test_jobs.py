"""bot.jobs: what a handle keeps of what its job says, without any connection."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bot.errors import ClientClosedError, JobCanceledError, JobFailedError, RefusedError, UnexpectedAnswerError
from bot.jobs import JobHandle
from bot.orders import submit_message
from proto import atelier_pb2 as pb
from server.errors import Code
from server.events import Accepted, Canceled, Failed, Preview, Progress, Succeeded
from tests.bot.fake_server import result


async def _no_cancel(job_id: str) -> pb.JobState:
    raise AssertionError(job_id)


def _submitted(**fields: Any) -> JobHandle:
    return JobHandle(submit_message("a star", fields), _no_cancel)  # type: ignore[arg-type]


def _accepted(**fields: Any) -> JobHandle:
    handle = _submitted(**fields)
    handle.hear("accepted", pb.Accepted(job_id="j", seed=5, duplicate=True))
    return handle


def _progress(number: int) -> pb.Progress:
    return pb.Progress(job_id="j", event_number=number, phase=pb.DENOISING, step=number, total_steps=20)


async def test_a_late_reader_gets_the_latest_of_everything_in_order() -> None:
    """Progress that was overtaken is gone; the latest Progress, the latest Preview of each image and the end are there."""
    handle = _accepted(inline_pictures=False)
    for number in range(1, 6):
        handle.hear("progress", _progress(number))
    for number, index in ((6, 0), (7, 1), (8, 0)):
        handle.hear("preview", pb.Preview(job_id="j", event_number=number, image_index=index, png=b"p"))
    assert handle.hear("result", result("j", 9, b"x"))
    events = [event async for event in handle]
    assert [event.number for event in events] == [0, 5, 7, 8, 9]
    assert [type(event) for event in events] == [Accepted, Progress, Preview, Preview, Succeeded]


async def test_a_reader_that_keeps_up_gets_every_event_once() -> None:
    """Events are handed out as they come, to every iterator."""
    handle = _accepted(inline_pictures=False)
    iterators = [handle.events(), handle.events()]
    assert [(await anext(iterator)).number for iterator in iterators] == [0, 0]
    for number in range(1, 4):
        handle.hear("progress", _progress(number))
        assert [(await anext(iterator)).number for iterator in iterators] == [number, number]


async def test_an_event_that_was_heard_before_is_not_told_again() -> None:
    """A Watch may begin with progress that is known already."""
    handle = _accepted()
    handle.hear("progress", _progress(4))
    handle.hear("progress", _progress(4))
    handle.hear("progress", _progress(3))
    assert handle.opening().watch.from_event == 5


def test_it_opens_with_its_submit_until_it_is_accepted() -> None:
    """Before Accepted a fresh connection gets the same Submit, after it a Watch with the same wishes."""
    handle = _submitted(idempotency_key="k", preview_every_steps=3)
    assert handle.opening().submit.idempotency_key == "k"
    handle.hear("accepted", pb.Accepted(job_id="j", seed=5))
    watch = handle.opening().watch
    assert (watch.job_id, watch.from_event) == ("j", 1)
    assert watch.progress
    assert watch.previews
    assert watch.inline_pictures


async def test_pieces_of_an_earlier_connection_do_not_count() -> None:
    """After a fresh opening the picture is put together from its beginning."""
    handle = _accepted()
    handle.hear("chunk", pb.Chunk(job_id="j", offset=0, size=4, data=b"ab"))
    handle.opening()
    handle.hear("chunk", pb.Chunk(job_id="j", offset=0, size=4, data=b"abcd"))
    handle.hear("result", result("j", 3, b"abcd"))
    assert (await handle.result()).pictures == (b"abcd",)


async def test_a_watch_from_beyond_the_end_hears_the_end() -> None:
    """A terminal event counts whatever its number is."""
    handle = JobHandle(pb.Watch(job_id="j", from_event=1000), _no_cancel)
    assert handle.hear("canceled", pb.Canceled(job_id="j", event_number=4))
    assert [type(event) for event in [event async for event in handle]] == [Canceled]


async def test_a_failed_job_raises_its_reason_each_time() -> None:
    """result() raises JobFailedError with the server's code; the events end with Failed."""
    handle = _accepted()
    error = pb.Error(code=pb.GPU_OUT_OF_MEMORY, message="too large")
    handle.hear("failed", pb.Failed(job_id="j", event_number=2, error=error))
    for _ in range(2):
        with pytest.raises(JobFailedError, match="too large") as caught:
            await handle.result()
        assert (caught.value.code, caught.value.job_id) == (Code.GPU_OUT_OF_MEMORY, "j")
    assert [type(event) for event in [event async for event in handle]] == [Accepted, Failed]


async def test_a_cancelled_job_raises_that() -> None:
    """result() raises JobCanceledError."""
    handle = _accepted()
    handle.hear("canceled", pb.Canceled(job_id="j", event_number=2))
    with pytest.raises(JobCanceledError):
        await handle.result()


async def test_a_refusal_reaches_all_who_wait() -> None:
    """accepted(), result() and the events all raise it."""
    handle = _submitted()
    waiting = [asyncio.ensure_future(handle.accepted()), asyncio.ensure_future(handle.result())]
    await asyncio.sleep(0)
    handle.hear("error", pb.Error(code=pb.INVALID_PARAMETER, field="width", limit="64 to 1280", message="no"))
    for task in waiting:
        with pytest.raises(RefusedError) as caught:
            await task
        assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, "width")
        assert caught.value.limit == "64 to 1280"
    with pytest.raises(RefusedError):
        await anext(handle.events())


async def test_what_happened_before_the_connection_was_lost_is_still_told() -> None:
    """Events that are kept come before the error that ended the handle."""
    handle = _accepted()
    handle.fail(ClientClosedError("closed"))
    events = handle.events()
    assert isinstance(await anext(events), Accepted)
    with pytest.raises(ClientClosedError):
        await anext(events)


async def test_an_answer_that_does_not_belong_ends_the_handle() -> None:
    """A Pong is no answer to a Submit."""
    handle = _submitted()
    assert handle.hear("pong", pb.Pong())
    with pytest.raises(UnexpectedAnswerError):
        await handle.result()
