"""Several nodes, on a broker in memory: jobs dispatched, taken, told of, cancelled.

Admission, lifecycle and board are the real ones.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from server.doors.amqp.broker import Properties, Publication
from server.doors.amqp.canceling import ASK_AGAIN, Canceling
from server.doors.amqp.dead_letters import CODE
from server.doors.amqp.dispatch import LOOK_EVERY, TRY_AGAIN, Dispatch
from server.doors.amqp.dispatching_again import DispatchingAgain
from server.doors.amqp.events import TOLD, heard, keys_of, message_of
from server.doors.amqp.hearing import ControlEar, EventEar, all_of
from server.doors.amqp.lasting import FIRST_PAUSE, Lasting
from server.doors.amqp.publisher import Publisher
from server.doors.amqp.queues import CONTROL, EVENTS, WORK, exchanges
from server.doors.amqp.telling import GATHERED, GATHERED_UNHEARD, QUIET, Teller
from server.doors.amqp.worker import LOOK_AGAIN, Worker, WorkerParts
from server.errors import Code, JobFailure, RecordsUnavailable
from server.events import Accepted, Artifact, Canceled, Event, Failed, Phase, Preview, Progress, Succeeded
from server.job import TERMINAL, Job, JobState
from server.jobs.dispatching import DispatchCalls, Dispatched
from server.jobs.elsewhere import Elsewhere
from server.webhook import CallState, Claimed, OutboxCall, Settlement
from tests.server.doors.amqp.fake_broker import FakeBroker
from tests.server.fakes import Recorder, settle
from tests.server.house import SILENT, House
from tests.server.memory import MemoryJobStore

DEAD = "image_generation.dead"
AGAIN_AFTER = 60.0
PROGRESS = Progress(
    number=3, job_id="job-1", phase=Phase.DENOISING, step=2, total_steps=4, fraction=0.5, eta_seconds=1.5
)
ARTIFACT = Artifact(
    image_index=0, key="k", url="", size=1, sha256="s", content_type="image/png", width=8, height=8, seed=1
)
ENDS: list[Event] = [
    Succeeded(number=4, job_id="job-1", artifacts=(ARTIFACT,), warnings=("w",), queued_seconds=1.0, processing_seconds=2.0),
    Failed(number=4, job_id="job-1", failure=JobFailure(Code.GENERATION_FAILED, "m", field="f", limit="l")),
    Canceled(number=4, job_id="job-1"),
]  # fmt: skip


class Claims(MemoryJobStore):
    """Jobs of several nodes: nobody's until one takes them, and then that one's until its lease is let go."""

    def __init__(self) -> None:
        super().__init__(100)
        self.holders: dict[str, str] = {}
        self.away = False

    async def take(self, node: str, job_id: str) -> Job | None:
        """For a node."""
        if self.away:
            raise RecordsUnavailable("away")
        job = await self.get(job_id)
        if job is None or job.state in TERMINAL or job_id in self.holders:
            return None
        self.holders[job_id] = node
        taken = replace(job, state=JobState.QUEUED, fence=job.fence + 1, last_event=job.last_event + 100)
        self._jobs[job_id] = taken
        return taken

    async def unclaimed(self, since: float) -> list[str]:
        """For whoever looks."""
        if self.away:
            raise RecordsUnavailable("away")
        live = [job for job in self._jobs.values() if job.state not in TERMINAL and job.id not in self.holders]
        return [job.id for job in live if job.created_at < since]


class MemoryOutbox:
    """An `Outbox` of what a `MemoryJobStore` was given."""

    def __init__(self, store: MemoryJobStore) -> None:
        self.store = store
        self.settled: list[Settlement] = []
        self.begun = 0
        self.away = False
        self._due: dict[str, float] = {}
        self.forgot: list[float] = []

    async def begin(self, *, at: float) -> None:
        """A life begins."""
        if self.away:
            raise RecordsUnavailable("away")
        self.begun += 1

    async def claim(
        self, *, at: float, until: float, most: int, room: Mapping[str, int], others: int
    ) -> Sequence[Claimed]:
        """What waits."""
        if self.away:
            raise RecordsUnavailable("away")
        done = {one.claimed.call.id for one in self.settled if one.state is CallState.DELIVERED}
        waiting = [
            call for call in self.store.calls.values() if call.id not in done and self._due.get(call.id, 0) <= at
        ]
        for call in waiting:
            self._due[call.id] = until
        return [Claimed(call, 1, at) for call in waiting]

    async def settle(self, settlement: Settlement, *, at: float) -> None:
        """What became of it."""
        self.settled.append(settlement)
        if settlement.next_at is not None:
            self._due[settlement.claimed.call.id] = settlement.next_at

    async def forget(self, *, settled_before: float) -> None:
        """What is old."""
        self.forgot.append(settled_before)

    async def add(self, calls: Sequence[OutboxCall], *, at: float, durable: bool) -> None:
        """Not asked for here."""
        raise NotImplementedError

    async def postpone(self, target: str, *, until: float) -> None:
        """Not asked for here."""
        raise NotImplementedError

    async def counts(self) -> Mapping[CallState, int]:
        """Not asked for here."""
        raise NotImplementedError


class Node:
    """A house with all that a node does with the broker, whatever its role."""

    def __init__(self, name: str, broker: FakeBroker, store: Claims, *, gateway: bool = False) -> None:
        self.house = House(store=store, announcer=DispatchCalls() if gateway else SILENT, leased=not gateway)
        self.clock = self.house.clock
        self.board = self.house.board
        self._name, self._store = name, store
        self.outbox = MemoryOutbox(store)
        self.alive = True
        self.publisher = Publisher(broker, clock=self.clock, chance=lambda: 1.0, declare=exchanges)
        self.elsewhere = Elsewhere(store=store, board=self.board, is_here=self.house.lifecycle.has, clock=self.clock)
        self.ear = EventEar(self.board, self.elsewhere)
        self.teller = Teller(self.publisher, self.elsewhere.has, self.board.key_of, self.clock)
        self.dispatch = Dispatch(self.outbox, self.publisher, self.clock)
        self.again = DispatchingAgain(self, self.publisher, self.clock, AGAIN_AFTER)
        self.dispatched = Dispatched(self.board, self.house.places, self.ear.follow)
        self.canceling = Canceling(
            here=self.house.lifecycle, store=store, claims=self, board=self.board, announcer=SILENT,
            publisher=self.publisher, clock=self.clock,
        )  # fmt: skip
        parts = WorkerParts(
            claims=self, is_here=self.house.lifecycle.has, set_going=self._set_going, board=self.board,
            publisher=self.publisher, can_paint=lambda: self.alive, dead=DEAD, clock=self.clock, chance=lambda: 1.0,
        )  # fmt: skip
        self.worker = Worker(2, parts)
        for watcher in (self.ear, self.teller, self.dispatched):
            self.board.tap(watcher)
        self.board.when_strange(self.ear.follow)
        if gateway:
            self.house.submit._lifecycle = self.dispatched
        uses = (
            [self.ear.use] if gateway else [self.ear.use, self.worker.use, ControlEar(self.house.lifecycle.cancel).use]
        )
        self.consuming = Lasting(broker, name, lambda link: all_of(uses, link), clock=self.clock, chance=lambda: 1.0)
        self._gateway = gateway

    def _set_going(self, jobs: Sequence[Job]) -> None:
        for job in jobs:
            self.house.places.hold(job.owner, job.id, 0)
            self.house.lifecycle.begin(job)

    async def take(self, job_id: str, *, at: float) -> Job | None:
        """As a `Claims`."""
        return await self._store.take(self._name, job_id)

    async def unclaimed(self, *, since: float, most: int) -> list[str]:
        """As a `Claims`."""
        return await self._store.unclaimed(since)

    async def start(self) -> Node:
        """Connected."""
        self.publisher.start()
        self.teller.start()
        self.consuming.start()
        if self._gateway:
            self.dispatch.start()
            self.again.start()
        await settle()
        return self

    async def stop(self) -> None:
        """Nothing is left of it."""
        self.worker.stop_taking()
        self.canceling.stop()
        self.elsewhere.stop()
        await self.teller.stop()
        await self.consuming.stop()
        await self.again.stop()
        await self.dispatch.stop()
        await self.publisher.stop()
        await settle()

    async def job(self) -> tuple[Job, Recorder]:
        """A new one, followed, and dispatched."""
        job, watcher = await self.house.followed()
        self.dispatch.ring()
        await settle()
        return job, watcher


async def nodes(*names: str) -> tuple[FakeBroker, Claims, list[Node]]:
    """Nodes on one broker and one store; those whose name begins with g are gateways."""
    broker, store = FakeBroker(), Claims()
    made = [await Node(name, broker, store, gateway=name.startswith("g")).start() for name in names]
    return broker, store, made


@pytest.mark.parametrize("event", [PROGRESS, *ENDS])
def test_events_are_json_under_their_job_s_key(event: Event) -> None:
    """Whoever reads them finds the job, the kind and the number in each; progress comes back whole."""
    key, body = message_of(event, "order-17")
    told = json.loads(body)
    assert key == f"job.job-1.{told['event']}"
    assert told["idempotency_key"] == "order-17"
    assert (told["job_id"], told["number"]) == ("job-1", event.number)
    assert heard(body) == ("job-1", event if event is PROGRESS else None)
    assert keys_of("job-1") == "job.job-1.*"


def test_every_kind_of_event_is_told_but_those_that_are_somebody_s_own() -> None:
    """The table has all but Accepted and Preview."""
    assert set(TOLD) == set(Event.__args__) - {Accepted, Preview}


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"job_id": 3, "event": "failed"}', b'{"job_id": "a", "event": "progress"}', b"[" * 100_000,
     message_of(PROGRESS, "")[1].replace(b"denoising", b"dancing")],
)  # fmt: skip
def test_what_is_no_event_is_a_value_error(body: bytes) -> None:
    """Nothing else, whatever was published to the exchange."""
    with pytest.raises(ValueError):  # noqa: PT011  # the text is for a log
        heard(body)


async def test_a_gateway_s_job_is_painted_by_a_worker_and_followed_through_it() -> None:
    """Its client hears of progress and the end; the message is acknowledged when the job has ended; the place is free again."""
    broker, _, (gateway, worker) = await nodes("gateway", "worker")
    job, watcher = await gateway.job()
    assert worker.house.lifecycle.has(job.id)
    assert not gateway.house.lifecycle.has(job.id)
    worker.house.painter.start(job.id)
    worker.house.painter.step(job.id, 5)
    await worker.house.pass_time(GATHERED)
    assert gateway.house.places.taken == 1
    held = broker.unacknowledged
    worker.house.painter.finish(job.id)
    await settle()
    kinds = [type(event) for event in watcher.events]
    assert (kinds[0], set(kinds[1:-1]), kinds[-1]) == (Accepted, {Progress}, Succeeded)
    assert (gateway.house.places.taken, broker.unacknowledged) == (0, held - 1)
    assert broker.bodies(WORK) == []
    for node in (gateway, worker):
        await node.stop()
        assert node.clock.getDelayedCalls() == []


async def test_lost_events_are_made_good_by_the_record() -> None:
    """A gateway that was not connected when its job ended finds the end all the same."""
    broker, _, (gateway, worker) = await nodes("gateway", "worker")
    job, watcher = await gateway.job()
    broker.away = "no route"
    broker.fall()
    await settle()
    worker.house.painter.paint(job.id)
    await settle()
    assert not watcher.ended
    for _ in range(12):
        await gateway.house.pass_time(1)
    assert isinstance(watcher.events[-1], Succeeded)
    for node in (gateway, worker):
        await node.stop()


async def test_a_gateway_that_comes_back_hears_on() -> None:
    """What it follows is bound anew on the new connection."""
    broker, _, (gateway, worker) = await nodes("gateway", "worker")
    job, watcher = await gateway.job()
    broker.fall()
    await settle()
    for node in (gateway, worker):
        await node.house.pass_time(FIRST_PAUSE)
    worker.house.painter.start(job.id)
    await settle()
    worker.house.painter.step(job.id, 5)
    await worker.house.pass_time(GATHERED)
    assert isinstance(watcher.events[-1], Progress)
    for node in (gateway, worker):
        await node.stop()


async def test_dead_letters_on_a_node_that_is_down_hold_up_no_worker() -> None:
    """Their queue lies on one node of the broker; jobs are painted while that one is away."""
    broker, _, (gateway, worker) = await nodes("gateway", "worker")
    broker.down.add(DEAD)
    broker.fall()
    await settle()
    for node in (gateway, worker):
        await node.house.pass_time(FIRST_PAUSE)
    job, _ = await gateway.job()
    assert worker.house.lifecycle.has(job.id)
    for node in (gateway, worker):
        await node.stop()


async def test_a_job_is_dispatched_when_broker_and_records_let_it() -> None:
    """Admitted is admitted: what cannot be published now is published later, by the outbox."""
    broker, _, (gateway,) = await nodes("gateway")
    assert gateway.outbox.begun == 1
    job, _ = await gateway.job()  # there is no queue: no worker has ever been there
    assert [one.state for one in gateway.outbox.settled] == [CallState.WAITING]
    gateway.outbox.away = True
    await gateway.house.pass_time(LOOK_EVERY)
    gateway.outbox.away = False
    broker.stand(WORK)
    await gateway.house.pass_time(TRY_AGAIN)
    await gateway.house.pass_time(LOOK_EVERY)
    assert [json.loads(body) for body in broker.bodies(WORK)] == [{"job_id": job.id}]
    assert gateway.outbox.settled[-1].state is CallState.DELIVERED
    assert gateway.outbox.forgot
    await gateway.stop()


@pytest.mark.parametrize("gone", ["emptied", "deleted"])
async def test_a_job_whose_message_is_gone_is_dispatched_again(gone: str) -> None:
    """Once nothing waits and nobody has taken it for long, and not while its message waits, or records and broker are away."""
    broker, store, (gateway,) = await nodes("gateway")
    broker.stand(WORK)
    job, watcher = await gateway.job()
    await gateway.house.pass_time(3 * AGAIN_AFTER)
    assert len(broker.bodies(WORK)) == 1, "it is there still"
    if gone == "emptied":
        broker.queues[WORK].clear()
    else:
        broker.delete(WORK)
    store.away = True
    await gateway.house.pass_time(AGAIN_AFTER)
    store.away = False
    broker.away = "no route"
    broker.fall()
    await settle()
    await gateway.house.pass_time(AGAIN_AFTER)
    broker.away = ""
    await gateway.house.pass_time(FIRST_PAUSE * 100)
    worker = await Node("worker", broker, store).start()
    await gateway.house.pass_time(AGAIN_AFTER)
    assert worker.house.lifecycle.has(job.id)
    await gateway.house.pass_time(3 * AGAIN_AFTER)
    assert broker.unacknowledged == 1, "it was dispatched though it had been taken"
    worker.house.painter.paint(job.id)
    await settle()
    await gateway.house.pass_time(12)
    assert isinstance(watcher.events[-1], Succeeded)
    for node in (gateway, worker):
        await node.stop()
        assert node.clock.getDelayedCalls() == []


async def test_a_dead_worker_s_job_is_another_s_when_its_lease_has_expired() -> None:
    """Until then the message is held; then its holder takes the job, and paints it."""
    broker, store, (gateway, first) = await nodes("gateway", "first")
    job, watcher = await gateway.job()
    await first.consuming.stop()  # as a kill would: its messages are another's, its leases still its own
    second = await Node("second", broker, store).start()
    assert not second.house.lifecycle.has(job.id)
    store.away = True
    await second.house.pass_time(LOOK_AGAIN)
    store.away = False
    del store.holders[job.id]
    await second.house.pass_time(LOOK_AGAIN)
    assert second.house.lifecycle.has(job.id)
    second.house.painter.paint(job.id)
    await settle()
    assert isinstance(watcher.events[-1], Succeeded)
    for node in (gateway, first, second):
        await node.stop()


async def test_a_worker_whose_engine_died_leaves_its_messages_to_others() -> None:
    """Nothing that it cannot paint is taken."""
    broker, _, (gateway, worker) = await nodes("gateway", "worker")
    worker.alive = False
    await gateway.job()
    assert len(broker.bodies(WORK)) == 1
    for node in (gateway, worker):
        await node.stop()


async def test_a_message_that_names_no_job_is_buried() -> None:
    """And one that names a job that nobody knows is acknowledged."""
    broker, _, (worker,) = await nodes("worker")
    broker.refusing.add(DEAD)
    for body in (b"x", b"[]", b'{"job_id": 7}', b'{"job_id": "unknown"}'):
        broker.put(WORK, body)
        await settle()
    broker.refusing.clear()
    await worker.house.pass_time(TRY_AGAIN)
    await worker.house.pass_time(TRY_AGAIN)
    assert [letter.properties.headers[CODE] for letter in broker.queues[DEAD]] == ["MALFORMED_MESSAGE"] * 3
    assert broker.bodies(WORK) == []
    await worker.stop()


async def test_a_cancel_reaches_a_job_that_waits_and_one_that_is_painted() -> None:
    """Nobody's job ends here and now; another node's is asked for there, until it has ended."""
    broker, store, (gateway, worker) = await nodes("gateway", "worker")
    job, watcher = await gateway.job()
    broker.refusing.update(name for name in broker.queues if name.startswith("own-"))
    gateway.canceling.cancel(job.id)
    gateway.canceling.cancel(job.id)
    await settle()
    assert not worker.house.painter.cancels
    broker.refusing.clear()
    await gateway.house.pass_time(ASK_AGAIN)
    assert worker.house.painter.cancels == [job.id]
    await settle()
    assert isinstance(watcher.events[-1], Canceled)
    await worker.consuming.stop()
    waiting, hears = await gateway.job()
    gateway.canceling.cancel(waiting.id)
    await settle()
    assert isinstance(hears.events[-1], Canceled)
    assert (await store.get(waiting.id)).state is JobState.CANCELED  # type: ignore[union-attr]
    await gateway.house.pass_time(ASK_AGAIN)
    for node in (gateway, worker):
        await node.stop()


async def test_a_job_of_this_node_is_cancelled_here() -> None:
    """Without a word to the broker."""
    _, _, (node,) = await nodes("node")
    job = await node.house.job()
    node.canceling.cancel(job.id)
    assert node.house.painter.cancels == [job.id]
    await settle()
    await node.stop()


async def test_nonsense_on_the_exchanges_harms_nobody() -> None:
    """It is passed over, and what follows is heard."""
    broker, _, (gateway, worker) = await nodes("gateway", "worker")
    job, watcher = await gateway.job()
    for name in [name for name in broker.queues if name.startswith("own-")]:
        for body in (b"x", b"{}", b'{"cancel": 3}', b'{"job_id": "another", "event": "failed"}'):
            broker.put(name, body, Properties())
    worker.house.painter.paint(job.id)
    await settle()
    assert isinstance(watcher.events[-1], Succeeded)
    for node in (gateway, worker):
        await node.stop()


async def test_progress_that_nobody_hears_is_told_less_often() -> None:
    """While no one listens to a job, once a second, and with less haste; its end always."""
    _, _, (node,) = await nodes("node")
    job = await node.house.job()
    node.house.painter.start(job.id)
    await settle()
    asked: list[str] = []
    publish_all = node.publisher.publish_all

    async def counted(messages: Sequence[Publication]) -> frozenset[int]:
        asked.extend(message.routing_key.rpartition(".")[2] for message in messages)
        return await publish_all(messages)

    node.publisher.publish_all = counted  # type: ignore[method-assign]
    for step in range(1, 6):
        node.house.painter.step(job.id, step)
        await node.house.pass_time(GATHERED)
    assert asked == ["progress"]
    await node.house.pass_time(QUIET)
    node.house.painter.step(job.id, 6)
    await node.house.pass_time(GATHERED)
    assert asked == ["progress"]
    await node.house.pass_time(GATHERED_UNHEARD)
    node.house.painter.finish(job.id)
    await settle()
    assert asked == ["progress", "progress", "succeeded"]
    await node.stop()


async def test_progress_that_its_job_s_end_overtakes_is_not_told() -> None:
    """Of a job that is done in a moment only the end goes to others, also where it was about to be told."""
    broker, _, (node,) = await nodes("node")
    broker.bindings.add((EVENTS, "#", "everything"))
    broker.stand("everything")
    for waits in (False, True):
        if waits:
            broker.confirming.clear()
        job = await node.house.job()
        node.house.painter.start(job.id)
        node.house.painter.step(job.id, 1)
        if waits:
            node.teller.job_event(Canceled(number=9, job_id="another"))  # which the broker does not take yet
            await settle()
            await node.house.pass_time(GATHERED)
        node.house.painter.finish(job.id)
        await settle()
        broker.confirming.set()
        await node.house.pass_time(GATHERED)
    told = [json.loads(body)["event"] for body in broker.bodies("everything")]
    assert told == ["succeeded", "canceled", "succeeded"]
    await node.stop()


async def test_a_broker_that_takes_nothing_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each job the latest progress is kept, and of all that is untold so much."""
    broker, _, (node,) = await nodes("node")
    monkeypatch.setattr("server.doors.amqp.telling.MOST_UNTOLD", 3)
    broker.bindings.add((EVENTS, "#", "everything"))
    broker.stand("everything")
    broker.confirming.clear()
    node.teller.job_event(PROGRESS)
    await node.house.pass_time(GATHERED)
    for number in range(20):
        node.teller.job_event(replace(PROGRESS, number=number))
        assert node.teller.untold == 1
    for number in range(20):
        node.teller.job_event(Canceled(number=1, job_id=f"job-{number}"))
    assert node.teller.untold == 3
    broker.fall()
    broker.confirming.set()
    await settle()
    for _ in range(5):
        await node.house.pass_time(FIRST_PAUSE)
    assert [json.loads(body)["job_id"] for body in broker.bodies("everything")] == ["job-17", "job-18", "job-19"]
    await node.stop()


async def test_the_first_use_of_a_link_that_fails_ends_the_others() -> None:
    """A link of which a part is of no use is given up whole, and made anew."""
    broker = FakeBroker()
    link = await broker.connect("testing")
    ended: list[str] = []

    async def lasting(link: Any) -> None:
        await asyncio.wait([link.closed])
        ended.append("lasting")

    async def failing(link: Any) -> None:
        raise ValueError("a mistake")

    with pytest.raises(ValueError, match="a mistake"):
        await all_of([lasting, failing], link)
    assert ended == ["lasting"]
    assert CONTROL not in broker.queues
