"""One handler a command."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest

from ai.types import ModelReady
from server import __version__
from server.commands import Cancel, Command, GetJob, GetServerStatus, ListJobs, ListModels, Ping, Submit, Watch
from server.errors import Code, Refusal
from server.job import JobState
from server.listing import JobPage, place_of
from server.replies import ServerState
from tests.server.fakes import settle
from tests.server.house import ADA, BOB, House


def test_every_command_has_a_handler() -> None:
    """The table is total, and holds nothing else."""
    assert set(House().handlers) == set(get_args(Command))


async def test_submit_is_carried_out() -> None:
    """The job exists, and the engine has it, and knows whose it is."""
    house = House()
    admitted: Any = await house.submit(Submit(owner=ADA, prompt="a star"))
    assert house.painter.known == {admitted.job.id: replace(admitted.job.request, owner=ADA)}


async def test_a_stopping_server_takes_nothing_new() -> None:
    """UNAVAILABLE, with a time after which another may be there."""
    house = House()
    house.health.drain()
    with pytest.raises(Refusal) as caught:
        await house.submit(Submit(owner=ADA, prompt="a star"))
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.retry_after_seconds > 0
    assert house.places.taken == 0


async def test_a_server_whose_engine_is_dead_takes_nothing_new() -> None:
    """A job that nobody will ever paint is refused, not kept waiting."""
    house = House()
    house.health.engine_died("bus error")
    house.lifecycle.engine_died("bus error")
    with pytest.raises(Refusal) as caught:
        await house.submit(Submit(owner=ADA, prompt="a star"))
    assert caught.value.code is Code.UNAVAILABLE
    assert house.places.taken == 0


async def test_cancel_tells_the_state_it_found() -> None:
    """A terminal one means that there was nothing left to cancel."""
    house = House()
    job, watcher = await house.followed()
    reply = await house.cancel(Cancel(owner=ADA, job_id=job.id))
    assert (reply.job_id, reply.state) == (job.id, JobState.QUEUED)
    await settle()
    assert watcher.kinds[-1] == "Canceled"
    assert (await house.cancel(Cancel(owner=ADA, job_id=job.id))).state is JobState.CANCELED


@pytest.mark.parametrize("command", [Cancel, Watch, GetJob])
@pytest.mark.parametrize("job_id", ["job-1", "no-such-job", "", "\0", "x" * 10_000])
async def test_another_owner_s_job_is_not_there(command: Any, job_id: str) -> None:
    """And is not touched."""
    house = House()
    await house.job()
    handler: Any = house.handlers[command]
    with pytest.raises(Refusal) as caught:
        await handler(command(owner=BOB, job_id=job_id))
    assert (caught.value.code, caught.value.field) == (Code.JOB_NOT_FOUND, "job_id")
    assert len(str(caught.value)) < 100
    assert house.painter.cancels == []


async def test_watch_finds_the_job() -> None:
    """Its door does the following."""
    house = House()
    job = await house.job()
    assert (await house.watch(Watch(owner=ADA, job_id=job.id))).job == job


async def test_get_job_joins_the_record_with_the_latest_progress() -> None:
    """Share and number of the latest event, while it runs and after."""
    house = House()
    job = await house.job()

    async def view() -> tuple[str, float, int]:
        reply = await house.get_job(GetJob(owner=ADA, job_id=job.id))
        return reply.job.state.value, reply.fraction, reply.last_event

    assert await view() == ("queued", 0.0, 0)
    house.painter.start(job.id)
    house.painter.step(job.id, 5)
    await settle()
    assert await view() == ("processing", 0.25, 1)
    house.painter.finish(job.id)
    await settle()
    assert await view() == ("succeeded", 1.0, 3)


def test_list_models_answers_at_once() -> None:
    """The default first."""
    house = House()
    reply: Any = house.handlers[ListModels](ListModels())
    assert [view.card.name for view in reply.models] == ["demo", "other"]


def test_ping_tells_the_time() -> None:
    """The client's as it came, and the server's in microseconds."""
    reply: Any = House(began_at=12.5).handlers[Ping](Ping(-7))
    assert (reply.client_time_us, reply.server_time_us) == (-7, 12_500_000)


async def test_the_server_s_status_gathers_every_number() -> None:
    """Each from where it is kept."""
    house = House()
    house.connections = 4
    ended, running, _ = [await house.job() for _ in range(3)]
    house.painter.paint(ended.id)
    house.painter.start(running.id)
    await house.pass_time(5)
    house.health.engine_events([ModelReady("demo", 1.0)])
    status: Any = house.handlers[GetServerStatus](GetServerStatus())
    assert (status.state, status.server_version, status.uptime_seconds) == (ServerState.READY, __version__, 5.0)
    assert (status.connections, status.jobs_waiting, status.jobs_running) == (4, 1, 1)
    assert (status.jobs_succeeded, status.jobs_failed, status.jobs_canceled) == (1, 0, 0)
    assert (status.batch_size, status.steps, status.step_seconds) == (7, 99, 0.25)
    assert (status.device, status.problem, status.reactor_lag_p99_ms) == ("cpu", "", 0.0)


async def test_a_list_says_how_far_jobs_are_and_where_there_are_more() -> None:
    """Its owner's own, newest first; `older` and `newer` hold at both ends, and in the middle."""
    house = House()
    jobs = []
    for _ in range(4):
        jobs.append(await house.job())
        await house.pass_time(1.0)
    await house.job(owner=BOB)
    house.painter.start(jobs[3].id)
    house.painter.step(jobs[3].id, 5)
    await settle()

    async def ask(**wanted: Any) -> tuple[list[str], bool, bool]:
        found: Any = await house.list_jobs(ListJobs(owner=ADA, page=JobPage(**wanted)))
        return [view.job.id for view in found.views], found.newer, found.older

    first = await ask(most=2)
    assert first == (["job-4", "job-3"], False, True)
    assert await ask(most=2, before=place_of(jobs[2])) == (["job-2", "job-1"], True, False)
    assert await ask(most=1, before=place_of(jobs[2])) == (["job-2"], True, True)
    assert await ask(most=2, after=place_of(jobs[1])) == (["job-4", "job-3"], False, True)
    assert await ask(most=1, skip=1) == (["job-3"], True, True)
    found: Any = await house.list_jobs(ListJobs(owner=ADA))
    assert found.views[0].fraction == 0.25


@pytest.mark.parametrize(
    ("wrong", "field"),
    [({"most": 0}, "limit"), ({"most": 101}, "limit"), ({"skip": -1}, "skip"), ({"skip": 10_001}, "skip")],
)
def test_a_list_has_limits(wrong: Any, field: str) -> None:
    """Refused, with the field's name."""
    with pytest.raises(Refusal) as caught:
        JobPage(**wrong)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, field)
