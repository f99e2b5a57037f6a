"""Jobs of other nodes, followed here by their records and by what is heard of them."""

from __future__ import annotations

from dataclasses import replace

from server.errors import RecordsUnavailable
from server.events import Accepted, Canceled
from server.job import Job, JobState, moved
from server.jobs.elsewhere import LOOK_EVERY, PATIENCE, Elsewhere
from tests.server.fakes import Recorder, settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore


class Store(MemoryJobStore):
    """A store whose looks are counted, and that may be away."""

    def __init__(self) -> None:
        super().__init__(100)
        self.looks = 0
        self.away = False

    async def get(self, job_id: str) -> Job | None:
        """The job."""
        self.looks += 1
        if self.away:
            raise RecordsUnavailable("away")
        return await super().get(job_id)


async def followed_elsewhere() -> tuple[House, Store, Elsewhere, Job, Recorder]:
    """A job that another node runs, and someone who follows it on this one."""
    store = Store()
    there, here = House(store=store), House(store=store)
    job = await there.job()
    elsewhere = Elsewhere(store=store, board=here.board, is_here=here.lifecycle.has, clock=here.clock)
    here.board.when_strange(elsewhere.look_after)
    watcher = Recorder()
    await here.board.follow(job.id, watcher)
    await settle()
    return here, store, elsewhere, job, watcher


async def end(store: Store, job: Job) -> None:
    """The other node records that the job was cancelled."""
    await store.move(moved(job, JobState.CANCELED, at=1.0, last_event=7))


async def test_the_end_of_a_job_on_another_node_is_told_here() -> None:
    """Who follows it hears that it was accepted, and its end when the record says so."""
    here, store, elsewhere, job, watcher = await followed_elsewhere()
    await here.pass_time(LOOK_EVERY)
    assert [type(event) for event in watcher.events] == [Accepted]
    await end(store, job)
    await here.pass_time(LOOK_EVERY)
    assert watcher.events[-1] == Canceled(number=7, job_id=job.id)
    assert elsewhere.ids == []
    assert here.clock.getDelayedCalls() == []


async def test_records_are_looked_at_less_while_the_other_node_speaks() -> None:
    """A job of which something was heard is looked at when nothing was heard for PATIENCE."""
    here, store, elsewhere, job, watcher = await followed_elsewhere()
    elsewhere.heard(job.id)
    elsewhere.heard("another")
    looks = store.looks
    for _ in range(int(PATIENCE) - 1):
        await here.pass_time(LOOK_EVERY)
    assert store.looks == looks
    await end(store, job)
    await here.pass_time(LOOK_EVERY)
    assert isinstance(watcher.events[-1], Canceled)


async def test_an_end_that_was_heard_of_is_told_at_once() -> None:
    """By the record: what was heard says only that there is something to see."""
    here, store, elsewhere, job, watcher = await followed_elsewhere()
    elsewhere.ended(job.id)
    await settle()
    assert not watcher.ended
    await end(store, job)
    store.away = True
    elsewhere.ended(job.id)
    await settle()
    store.away = False
    elsewhere.ended(job.id)
    elsewhere.ended(job.id)
    await settle()
    assert isinstance(watcher.events[-1], Canceled)
    assert not elsewhere.has(job.id)
    elsewhere.ended(job.id)
    await here.pass_time(LOOK_EVERY)
    assert here.clock.getDelayedCalls() == []


async def test_a_database_that_is_away_is_asked_again() -> None:
    """The end is told when the records are back."""
    here, store, _, job, watcher = await followed_elsewhere()
    store.away = True
    for _ in range(3):
        await here.pass_time(LOOK_EVERY)
    await end(store, job)
    store.away = False
    await here.pass_time(LOOK_EVERY)
    await here.pass_time(LOOK_EVERY)
    assert isinstance(watcher.events[-1], Canceled)


async def test_a_job_that_is_taken_up_here_is_looked_after_no_more() -> None:
    """From then on this node knows better than the record."""
    here, _, elsewhere, job, _ = await followed_elsewhere()
    here.lifecycle.begin(replace(job, fence=2))
    await here.pass_time(LOOK_EVERY)
    assert elsewhere.ids == []


async def test_a_job_that_was_forgotten_is_taken_down() -> None:
    """Nobody waits for the end of a job that is in no record any more."""
    here, store, elsewhere, job, _ = await followed_elsewhere()
    store._jobs.clear()
    await here.pass_time(LOOK_EVERY)
    assert (elsewhere.ids, here.board.has(job.id)) == ([], False)


async def test_a_stop_ends_the_looking() -> None:
    """Nothing is left of it."""
    here, _, elsewhere, _, _ = await followed_elsewhere()
    await settle()
    elsewhere.stop()
    await settle()
    assert here.clock.getDelayedCalls() == []
