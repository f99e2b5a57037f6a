"""What is measured of jobs, by real jobs on fakes."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ai.types import GenerationError, OutOfMemory
from server.events import Canceled, Phase, Progress
from server.interfaces import Leases
from server.job import Job, JobState
from server.jobs.observing import ObservedJobs
from server.metrics.jobs import CountedLeases, JobMeter, live_families
from tests.server.database.contract import a_job
from tests.server.fakes import settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore
from tests.server.metrics.scrape import now, some_metrics, text_of


class Measured:
    """A house whose jobs are measured."""

    def __init__(self, **parts: object) -> None:
        self.metrics = some_metrics()
        self.meter = JobMeter(self.metrics, ["demo", "other"], lambda: self.house.clock.seconds())
        self.house = House(store=ObservedJobs(MemoryJobStore(100), [self.meter]), **parts)  # type: ignore[arg-type]
        self.house.board.tap(self.meter)

    @property
    def found(self) -> dict[str, float]:
        """The series now."""
        return now(self.metrics)


async def test_a_job_s_way_is_timed() -> None:
    """Queued 2 s, first step after 3, painted after 7 and stored after 8: each in its own histogram, the pictures counted."""
    measured = Measured()
    house = measured.house
    job = await house.job(num_images=2)
    await house.pass_time(2)
    house.painter.start(job.id)
    await settle()
    await house.pass_time(1)
    house.painter.step(job.id, 1)
    await house.pass_time(1)
    house.painter.step(job.id, 2)
    await house.pass_time(3)
    house.artifacts.gate = asyncio.Event()
    house.painter.finish(job.id)
    await house.pass_time(1)
    house.artifacts.gate.set()
    await settle()
    found = measured.found
    sums = {
        name: found[f'atelier_job_{name}_sum{{model="demo"}}']
        for name in ("queued_seconds", "first_step_seconds", "processing_seconds", "finishing_seconds", "seconds")
    }
    assert sums == {
        "queued_seconds": 2.0,
        "first_step_seconds": 3.0,
        "processing_seconds": 6.0,
        "finishing_seconds": 1.0,
        "seconds": 8.0,
    }
    assert found['atelier_jobs_accepted_total{model="demo"}'] == 1
    assert found['atelier_jobs_ended_total{code="OK",model="demo",state="succeeded"}'] == 1
    assert found['atelier_images_total{model="demo"}'] == 2


async def test_ends_are_told_apart_by_state_and_code() -> None:
    """A failure by its code, a cancel without one; neither has a duration."""
    measured = Measured()
    house = measured.house
    failed, canceled = await house.job(), await house.job(model="other", width=128, height=128)
    house.painter.start(failed.id)
    house.painter.fail(failed.id, GenerationError("NaN"))
    house.lifecycle.cancel(canceled.id)
    await settle()
    found = measured.found
    assert found['atelier_jobs_ended_total{code="GENERATION_FAILED",model="demo",state="failed"}'] == 1
    assert found['atelier_jobs_ended_total{code="OK",model="other",state="canceled"}'] == 1
    assert 'atelier_job_seconds_count{model="demo"}' not in found


async def test_retries_are_counted_by_their_reason_and_the_wait_before_once() -> None:
    """The second beginning says nothing of how long the queue is."""
    measured = Measured(retry_delays=(30.0,))
    house = measured.house
    job = await house.job()
    house.painter.start(job.id)
    house.painter.fail(job.id, OutOfMemory("full"))
    await settle()
    await house.pass_time(30)
    house.painter.paint(job.id)
    await settle()
    found = measured.found
    assert found['atelier_jobs_retried_total{code="GPU_OUT_OF_MEMORY"}'] == 1
    assert (
        found['atelier_job_queued_seconds_count{model="demo"}'],
        found['atelier_job_queued_seconds_sum{model="demo"}'],
    ) == (1, 0)
    assert found['atelier_job_processing_seconds_count{model="demo"}'] == 1


async def test_a_repeated_submit_is_no_second_job() -> None:
    """It has the older one's place."""
    measured = Measured()
    for _ in range(3):
        await measured.house.job(idempotency_key="once")
    assert measured.found['atelier_jobs_accepted_total{model="demo"}'] == 1


async def test_nothing_that_a_user_chose_is_a_label() -> None:
    """Neither owner, prompt, key, adapter, id nor the name of a model that no card has any more."""
    measured = Measured()
    job = await measured.house.job("SECRET-prompt", owner="SECRET-owner", idempotency_key="SECRET-key")
    measured.house.painter.paint(job.id)
    await settle()
    gone = a_job("SECRET-id", state=JobState.FAILED)
    measured.meter.moved(replace(gone, request=replace(gone.request, model="SECRET-model")))
    text = text_of(measured.metrics)
    assert 'atelier_jobs_ended_total{code="OK",model="other",state="failed"} 1.0' in text
    assert "SECRET" not in text
    assert job.id not in text


async def test_a_gateway_s_job_is_forgotten_when_its_end_is_heard() -> None:
    """It is another node that has ended it, and counts it."""
    measured = Measured()
    job = await measured.house.job()
    measured.meter.job_event(Canceled(number=9, job_id=job.id))
    late = Progress(number=10, job_id=job.id, phase=Phase.DENOISING, step=1, total_steps=2, fraction=0.5, eta_seconds=0)
    measured.meter.job_event(late)
    assert 'atelier_job_first_step_seconds_count{model="demo"}' not in measured.found


async def test_an_observer_that_breaks_harms_no_job() -> None:
    """What was recorded is given back all the same."""

    class Broken:
        def admitted(self, job: Job) -> None:
            raise RuntimeError("admitted")

        def moved(self, job: Job) -> None:
            raise RuntimeError("moved")

    house = House(store=ObservedJobs(MemoryJobStore(100), [Broken()]))
    job, watcher = await house.followed()
    house.painter.paint(job.id)
    await settle()
    assert watcher.kinds[-1] == "Succeeded"


async def test_jobs_that_have_not_ended_are_told_by_state_with_their_places() -> None:
    """As they are now."""
    measured = Measured()
    house = measured.house
    measured.metrics.add(live_families(house.lifecycle.by_state, house.places, 10))
    jobs = [await house.job() for _ in range(3)]
    house.painter.start(jobs[0].id)
    await settle()
    found = measured.found
    assert [found[f'atelier_jobs{{state="{state}"}}'] for state in ("queued", "processing", "retrying")] == [2, 1, 0]
    assert (found["atelier_jobs_pending"], found["atelier_jobs_pending_limit"]) == (3, 10)


async def test_jobs_taken_up_are_counted() -> None:
    """Those at the start apart from those whose lease expired later; renewing and giving back go through."""
    said: list[str] = []

    class Two:
        async def take_up(self, *, at: float, begin: bool) -> list[Job]:
            return [a_job("a"), a_job("b")] if begin else [a_job("c")]

        async def renew(self, *, at: float) -> None:
            said.append(f"renew {at}")

        async def give_back(self, *, at: float) -> None:
            said.append(f"give back {at}")

    metrics = some_metrics()
    leases: Leases = CountedLeases(Two(), metrics)
    await leases.take_up(at=1.0, begin=True)
    await leases.take_up(at=2.0, begin=False)
    await leases.renew(at=3.0)
    await leases.give_back(at=4.0)
    found = now(metrics)
    assert (
        found['atelier_jobs_taken_up_total{when="start"}'],
        found['atelier_jobs_taken_up_total{when="expired"}'],
    ) == (2, 1)
    assert said == ["renew 3.0", "give back 4.0"]
