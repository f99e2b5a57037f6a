"""What becomes of an accepted job: the ordinary ways."""

from __future__ import annotations

from typing import Any

import pytest

from ai.types import (
    AdapterError,
    DeadlineExceeded,
    DeviceLost,
    EngineError,
    EngineStopped,
    GenerationError,
    InputError,
    MemoryLimitExceeded,
    ModelLoadError,
    ModelReady,
    OutOfMemory,
    Parked,
    Phase,
    Started,
    Stepped,
)
from server import events
from server.errors import Code
from server.job import JobState
from tests.server.fakes import HoldingPool, Recorder, picture_key, settle
from tests.server.house import House


async def test_a_job_is_painted_stored_and_told() -> None:
    """Accepted, progress at every step, finishing, and the result with its artifacts, times and warnings."""
    house = House()
    job, watcher = await house.followed(num_images=2, seed=7)
    await house.pass_time(2)
    house.painter.start(job.id)
    await settle()
    for step in (10, 20):
        house.painter.step(job.id, step)
    await house.pass_time(3)
    house.painter.finish(job.id, "prompt: cut")
    await settle()
    assert watcher.kinds == ["Accepted", "Progress", "Progress", "Progress", "Succeeded"]
    assert [event.number for event in watcher.events] == [0, 1, 2, 3, 4]
    told = watcher.succeeded
    assert [artifact.key for artifact in told.artifacts] == [picture_key(job.id), picture_key(job.id, 1)]
    assert [artifact.seed for artifact in told.artifacts] == [7, 8]
    assert told.warnings == ("prompt: cut",)
    assert (told.queued_seconds, told.processing_seconds) == (2.0, 3.0)
    assert set(house.artifacts.stored) == {artifact.key for artifact in told.artifacts}


async def test_progress_says_phase_step_and_share() -> None:
    """As the engine told it, then finishing at its whole."""
    house = House()
    job, watcher = await house.followed(num_inference_steps=4)
    house.painter.start(job.id)
    house.painter.step(job.id, 1)
    house.painter.finish(job.id)
    await settle()
    first, last = (event for event in watcher.events if isinstance(event, events.Progress))
    assert (first.phase, first.step, first.total_steps) == (events.Phase.DENOISING, 1, 4)
    assert (first.fraction, first.eta_seconds) == (0.25, 3.0)
    assert (last.phase, last.step, last.fraction) == (events.Phase.FINISHING, 4, 1.0)


@pytest.mark.parametrize("phase", list(Phase))
async def test_every_phase_of_the_engine_has_one_of_ours(phase: Phase) -> None:
    """Nothing the engine says is untranslatable."""
    house = House()
    job, watcher = await house.followed()
    house.lifecycle.engine_events([Started(job.id), Stepped(job.id, phase, 1, 20, 0.05, 1.0)])
    event = watcher.events[-1]
    assert isinstance(event, events.Progress)
    assert event.phase.value == phase.value


async def test_a_parked_job_says_so() -> None:
    """Where it stands, and no time that nobody knows; it is still processing."""
    house = House()
    job, watcher = await house.followed(num_inference_steps=4)
    house.painter.start(job.id)
    house.painter.step(job.id, 1)
    house.lifecycle.engine_events([Parked(job.id, 1, 4, 0.25)])
    await settle()
    event = watcher.events[-1]
    assert isinstance(event, events.Progress)
    assert (event.phase, event.step, event.fraction, event.eta_seconds) == (events.Phase.PARKED, 1, 0.25, 0.0)
    assert (await house.kept(job.id)).state is JobState.PROCESSING


async def test_the_record_goes_through_its_states() -> None:
    """Queued, processing once seated, succeeded, with the times of each."""
    house = House()
    job = await house.job()
    assert (house.lifecycle.live, house.lifecycle.waiting) == (1, 1)
    await house.pass_time(2)
    house.painter.start(job.id)
    await settle()
    processing = await house.kept(job.id)
    assert (processing.state, processing.started_at) == (JobState.PROCESSING, job.created_at + 2)
    assert (house.lifecycle.live, house.lifecycle.waiting) == (1, 0)
    await house.pass_time(3)
    house.painter.finish(job.id)
    await settle()
    done = await house.kept(job.id)
    assert (done.state, done.completed_at) == (JobState.SUCCEEDED, job.created_at + 5)
    assert (house.lifecycle.live, house.lifecycle.waiting, house.places.taken) == (0, 0, 0)
    assert house.lifecycle.ended == {JobState.SUCCEEDED: 1, JobState.FAILED: 0, JobState.CANCELED: 0}


async def test_the_record_s_end_is_the_event_s() -> None:
    """A late watcher hears the very same terminal event, number and all."""
    house = House()
    job, watcher = await house.followed()
    house.painter.paint(job.id)
    await settle()
    late = Recorder()
    await house.board.follow(job.id, late)
    assert late.events == [watcher.events[0], watcher.events[-1]]


async def test_previews_become_small_pngs() -> None:
    """One of each image, numbered among the progress."""
    house = House()
    job, watcher = await house.followed(num_images=2, preview_every_steps=1)
    house.painter.start(job.id)
    for index in (0, 1):
        house.painter.preview(job.id, index, 1)
    await settle()
    previews = [event for event in watcher.events if isinstance(event, events.Preview)]
    assert [(preview.image_index, preview.step) for preview in previews] == [(0, 1), (1, 1)]
    assert all(preview.png.startswith(b"\x89PNG") for preview in previews)


async def test_previews_that_cannot_be_encoded_in_time_are_overtaken() -> None:
    """While the threads are busy only the latest of each image waits, and the result does not wait behind all of them."""
    pool = HoldingPool()
    house = House(finishing_pool=pool)
    job, watcher = await house.followed(num_images=2, preview_every_steps=1)
    house.painter.start(job.id)
    for step in range(1, 20):
        for index in (0, 1):
            house.painter.preview(job.id, index, step)
        await settle()
    house.painter.finish(job.id)
    pool.gate.set()
    await settle()
    previews = [(event.image_index, event.step) for event in watcher.events if isinstance(event, events.Preview)]
    assert watcher.succeeded
    assert len(previews) <= 4
    assert {(0, 19), (1, 19)} <= set(previews)


async def test_a_preview_that_fails_costs_no_job() -> None:
    """A look on the way is worth no job's life."""
    pool = HoldingPool()
    pool.error = MemoryError("no room")
    pool.gate.set()
    house = House(finishing_pool=pool)
    job, watcher = await house.followed(preview_every_steps=1)
    house.painter.start(job.id)
    house.painter.preview(job.id, 0, 1)
    await settle()
    pool.error = None
    house.painter.step(job.id, 2)
    house.painter.finish(job.id)
    await settle()
    assert "Preview" not in watcher.kinds
    assert watcher.succeeded


CODES: dict[type[EngineError], Code] = {
    EngineError: Code.GENERATION_FAILED,
    ModelLoadError: Code.MODEL_LOAD_FAILED,
    AdapterError: Code.ADAPTER_INVALID,
    OutOfMemory: Code.GPU_OUT_OF_MEMORY,
    MemoryLimitExceeded: Code.MEMORY_LIMIT_EXCEEDED,
    DeadlineExceeded: Code.DEADLINE_EXCEEDED,
    DeviceLost: Code.GENERATION_FAILED,
    GenerationError: Code.GENERATION_FAILED,
    EngineStopped: Code.GENERATION_FAILED,
}


def all_kinds(kind: type[EngineError]) -> set[type[EngineError]]:
    """An error and all below it."""
    return {kind}.union(*(all_kinds(below) for below in kind.__subclasses__()))


def test_every_error_of_the_engine_is_known_here() -> None:
    """A new one has to be given its code."""
    known = {kind for kind in all_kinds(EngineError) if kind.__module__ == "ai.errors"}
    assert known == {*CODES, InputError}  # which brings its own field and limit: see test_predicting


@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.__name__)
async def test_every_error_of_the_engine_has_a_code(kind: type[EngineError]) -> None:
    """The job fails with it and with the engine's own words, and its place is free."""
    house = House()
    job, watcher = await house.followed()
    house.painter.start(job.id)
    house.painter.fail(job.id, kind("these were its words"))
    await settle()
    assert (watcher.failure.code, watcher.failure.message) == (CODES[kind], "these were its words")
    assert (await house.kept(job.id)).state is JobState.FAILED
    assert house.places.taken == house.lifecycle.live == 0
    assert house.lifecycle.ended[JobState.FAILED] == 1


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), TimeoutError("S3 does not answer")])
async def test_a_storage_that_fails_fails_the_job(error: OSError) -> None:
    """STORAGE_FAILED, with the reason."""
    house = House()
    house.artifacts.put_error = error
    job, watcher = await house.followed()
    house.painter.paint(job.id)
    await settle()
    assert watcher.failure.code is Code.STORAGE_FAILED
    assert (error.strerror or str(error)) in watcher.failure.message


async def test_what_nobody_foresaw_fails_the_job_and_frees_its_row() -> None:
    """INTERNAL_ERROR, without the text of a mistake of ours; the engine is told to stop."""
    house = House()
    house.artifacts.put_error = ZeroDivisionError("/secret/path")
    job, watcher = await house.followed()
    house.painter.paint(job.id)
    await settle()
    assert watcher.failure.code is Code.INTERNAL_ERROR
    assert "secret" not in watcher.failure.message
    assert house.places.taken == house.lifecycle.live == 0


async def test_one_job_s_trouble_is_its_own() -> None:
    """An event that cannot be heard costs its own job, not the others of the same step."""
    house = House()
    first, one = await house.followed()
    second, other = await house.followed()
    house.lifecycle.engine_events([Started(first.id), Started(second.id)])
    await settle()
    broken: Any = Stepped(first.id, "no such phase", 1, 20, 0.05, 1.0)  # type: ignore[arg-type]
    house.lifecycle.engine_events([broken, Stepped(second.id, Phase.DENOISING, 1, 20, 0.05, 1.0)])
    await settle()
    assert one.failure.code is Code.INTERNAL_ERROR
    assert house.painter.cancels == [first.id]
    house.painter.finish(second.id)
    await settle()
    assert other.succeeded


async def test_events_of_models_and_of_jobs_long_gone_are_no_concern() -> None:
    """They change nothing."""
    house = House()
    house.lifecycle.engine_events([ModelReady("demo", 1.0), Started("no-such-job")])
    await settle()
    assert house.lifecycle.live == 0


async def test_the_engine_s_refusal_ends_the_job() -> None:
    """A job that was accepted and cannot be given to the engine fails; it does not hang, and holds no place."""
    house = House()
    house.painter.refuses = EngineStopped("stopping")
    watcher = Recorder()
    job = await house.job()
    await house.board.follow(job.id, watcher)
    await settle()
    assert watcher.failure.code is Code.UNAVAILABLE
    assert house.places.taken == house.lifecycle.live == 0


async def test_many_jobs_end_each_once_whatever_the_order() -> None:
    """Interleaved as the engine likes, every job has its own numbers and its own end."""
    house = House()
    followed = [await house.followed() for _ in range(8)]
    for step in (1, 2, 3):
        for job, _ in followed:
            if step == 1:
                house.painter.start(job.id)
            house.painter.step(job.id, step)
        await settle()
    for job, _ in reversed(followed):
        house.painter.finish(job.id)
    await settle()
    for _, watcher in followed:
        assert [event.number for event in watcher.events] == [0, 1, 2, 3, 4, 5]
        assert watcher.succeeded
