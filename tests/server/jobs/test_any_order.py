"""Whatever happens to a job, in whatever order: its events stay in order, and it ends exactly once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ai.types import Canceled, EngineEvent, Failed, Finished, OutOfMemory, Phase, Picture, Previewed, Started, Stepped
from server.job import TERMINAL, Job
from server.webhook import OutboxCall
from tests.conftest import LOOP, start_reactor
from tests.server.fakes import Recorder, settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore

JOBS = 3
PICTURE = Picture(7, 64, 72, bytes(64 * 72 * 3))


class Leisurely(MemoryJobStore):
    """A store that takes some turns of the loop to record anything."""

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """As it says."""
        for _ in range(5):
            await asyncio.sleep(0)
        return await super().move(job, calls)


async def turns(count: int) -> None:
    """Let the loop turn so often."""
    for _ in range(count):
        await asyncio.sleep(0)


class AnyOrder(RuleBasedStateMachine):
    """Three jobs, and all that may come upon them: the engine in any order, owners, time, death, and watchers late or early."""

    @initialize()
    def begin(self) -> None:
        """Jobs with a deadline, each followed from the start."""
        start_reactor()
        self.house = House(store=Leisurely(100))
        self.house.artifacts.gate = asyncio.Event()
        self.house.artifacts.gate.set()
        self.watchers: dict[str, list[Recorder]] = {}
        for _ in range(JOBS):
            job, watcher = LOOP.run_until_complete(self.house.followed(num_images=2, deadline_seconds=100))
            self.watchers[job.id] = [watcher]

    jobs = st.sampled_from([f"job-{number}" for number in range(1, JOBS + 1)])

    @rule(job=jobs, what=st.sampled_from(["started", "stepped", "previewed", "finished", "failed", "canceled"]))
    def engine_says(self, job: str, what: str) -> None:
        """One event, also where the engine would not say it."""
        events: dict[str, EngineEvent] = {
            "started": Started(job),
            "stepped": Stepped(job, Phase.DENOISING, 1, 20, 0.05, 1.0),
            "previewed": Previewed(job, 1, 1, 8, 8, bytes(192)),
            "finished": Finished(job, (PICTURE, PICTURE), ("cut",)),
            "failed": Failed(job, OutOfMemory("no room")),
            "canceled": Canceled(job),
        }
        self.house.lifecycle.engine_events([events[what]])

    @rule(job=jobs)
    def owner_cancels(self, job: str) -> None:
        """At any time."""
        self.house.lifecycle.cancel(job)

    @rule(job=jobs, from_event=st.integers(0, 4))
    def someone_watches(self, job: str, from_event: int) -> None:
        """From any event on, also when it is long over."""
        watcher = Recorder()
        LOOP.run_until_complete(self.house.board.follow(job, watcher, from_event))
        self.watchers[job].append(watcher)

    @rule(seconds=st.sampled_from([1.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        """Deadlines come."""
        self.house.clock.advance(seconds)

    @rule()
    def everyone_acts(self) -> None:
        """Until nothing moves."""
        LOOP.run_until_complete(settle())

    @rule(count=st.integers(1, 8))
    def everyone_acts_a_little(self, count: int) -> None:
        """And is found in the middle of something."""
        LOOP.run_until_complete(turns(count))

    @rule(answers=st.booleans())
    def storage(self, answers: bool) -> None:
        """It answers, or does not."""
        gate = self.house.artifacts.gate
        assert gate is not None
        (gate.set if answers else gate.clear)()

    @rule()
    def engine_dies(self) -> None:
        """With whatever it had."""
        self.house.lifecycle.engine_died("bus error")

    @invariant()
    def every_live_job_has_its_place(self) -> None:
        """None is given back twice, and never are there more places than jobs."""
        if hasattr(self, "house"):
            assert self.house.lifecycle.live <= self.house.places.taken <= JOBS

    def teardown(self) -> None:
        """In the end every job has ended, each watcher heard so once, and nothing is left behind."""
        if not hasattr(self, "house"):
            return
        self.storage(True)
        self.house.clock.advance(200)
        LOOP.run_until_complete(settle())
        self.house.lifecycle.engine_events([Canceled(job) for job in self.watchers])
        LOOP.run_until_complete(settle())
        records: list[Any] = [LOOP.run_until_complete(self.house.kept(job)) for job in self.watchers]
        assert {record.state for record in records} <= TERMINAL
        for record in records:
            ends = {
                (type(watcher.events[-1]).__name__, watcher.events[-1].number) for watcher in self.watchers[record.id]
            }
            assert len(ends) == 1
            assert all(watcher.ended for watcher in self.watchers[record.id])
            assert ends.pop()[1] == record.last_event
        assert sum(self.house.lifecycle.ended.values()) == JOBS
        assert self.house.lifecycle.live == self.house.places.taken == 0
        assert self.house.clock.getDelayedCalls() == []


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(
    max_examples=150, stateful_step_count=30, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip
