"""What becomes of deliveries: acknowledged when their job has ended, never before, never twice, whatever happens between.

The broker is in memory; admission, lifecycle, board and records are the real ones.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from ai import types as engine
from server.commands import Predict, Submit
from server.doors.amqp.broker import Properties
from server.doors.amqp.dead_letters import CODE, FIELD, REASON
from server.doors.amqp.events import REFUSED
from server.doors.amqp.intake import JOB, LIMIT, TRY_AGAIN, Intake, IntakeParts, IntakeSettings
from server.doors.amqp.intake import OWNER as OWNER_HEADER
from server.doors.amqp.lasting import FIRST_PAUSE, Lasting
from server.doors.amqp.publisher import Publisher
from server.doors.amqp.queues import EVENTS, Queues, exchanges
from server.errors import Code, JobFailure, RecordsUnavailable, Refusal
from server.job import Job, JobState
from server.limits import REQUESTS, Rate
from server.replies import Admitted
from tests.server.doors.amqp.fake_broker import FakeBroker, FakeChannel
from tests.server.fakes import settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore
from tests.server.pictures import a_png
from watermark import ImageMark

QUEUES = Queues("image_generation")
DELAYS = (0.0, 30.0, 120.0)
OWNER = "backend"


class Shelf:
    """The storage's pictures of signatures."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes | Exception] = {}
        self.reads = 0

    async def read(self, key: str) -> bytes:
        """One of them."""
        self.reads += 1
        found = self.kept[key]
        if isinstance(found, Exception):
            raise found
        return found


class Store(MemoryJobStore):
    """A store that may be away."""

    away = False

    async def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The job of a key."""
        if self.away:
            raise RecordsUnavailable("away")
        return await super().find(owner, idempotency_key)


class Inn:
    """A house with the RabbitMQ door."""

    def __init__(self, *, prefetch: int = 10, **house: Any) -> None:
        self.store = Store(100)
        self.house = House(store=self.store, retry_delays=DELAYS, **house)
        self.clock = self.house.clock
        self.broker = FakeBroker()
        self.shelf = Shelf()
        self.told: list[tuple[int, Code, str]] = []
        self.submit: Callable[[Submit | Predict], Awaitable[Admitted]] = self._submit
        self.publisher = Publisher(self.broker, clock=self.clock, chance=lambda: 1.0, declare=exchanges)
        self.intake = Intake(
            IntakeSettings(queues=QUEUES, owner=OWNER, prefetch=prefetch, max_bytes=10_000, retry_delays=DELAYS),
            IntakeParts(
                submit=lambda command: self.submit(command),
                board=self.house.board,
                store=self.store,
                pictures=self.shelf,
                publisher=self.publisher,
                tell_refused=self._tell,
                can_paint=lambda: not self.house.health.dead,
                clock=self.clock,
                chance=lambda: 1.0,
                may_own=self._may_own,
            ),
        )
        self.lasting = Lasting(self.broker, "consuming", self.intake.use, clock=self.clock, chance=lambda: 1.0)

    async def _submit(self, command: Submit | Predict) -> Admitted:
        bare = replace(command, adapters=()) if isinstance(command, Submit) else command
        return await self.house.submit(bare)  # which lie in a storage that is not here

    async def _may_own(self, owner: str) -> bool:
        if self.store.away:
            raise RecordsUnavailable("away")
        return owner == "lovelace"

    async def _tell(self, generation_id: int, failure: JobFailure, url: str) -> None:
        if self.store.away:
            raise RecordsUnavailable("away")
        self.told.append((generation_id, failure.code, url))

    async def opened(self) -> Inn:
        """It has connected."""
        self.publisher.start()
        self.lasting.start()
        await settle()
        return self

    async def close(self) -> None:
        """As the server stops."""
        self.intake.stop_taking()
        await settle()
        await self.lasting.stop()
        await self.publisher.stop()
        await settle()

    async def post(self, number: int = 1, **changes: Any) -> None:
        """A message for generation `number`."""
        data = {
            "generation_id": number, "style_id": 1, "prompt": "a red star",
            "parameters": {"width": 64, "height": 64, "steps": 4}, **changes,
        }  # fmt: skip
        await self.post_body({"task_id": f"task-{number}", "type": "image_generation", "data": data})

    async def post_body(self, message: dict[str, Any], **headers: Any) -> None:
        """Any message."""
        properties = Properties(message_id="m", reply_to="shop", headers=headers)
        self.broker.put(QUEUES.jobs, json.dumps(message).encode(), properties)
        await settle()

    async def listen(self, queue: str, routing_key: str) -> None:
        """Keep what is told under that key in a queue."""
        channel = await (await self.broker.connect("a listener")).channel()
        await channel.declare_queue(queue)
        await channel.bind(queue, EVENTS, routing_key)

    async def job(self, number: int = 1) -> Job:
        """The job of a message."""
        job = await self.store.find(OWNER, f"task-{number}")
        assert job is not None
        return job

    async def fail(self, number: int = 1, error: engine.EngineError | None = None) -> None:
        """The engine fails a job."""
        self.house.painter.fail((await self.job(number)).id, error or engine.EngineError("broken"))
        await settle()

    @property
    def channel(self) -> FakeChannel:
        """That on which messages come now."""
        (link,) = [link for link in self.broker.links if link.purpose == "consuming"]
        return [channel for channel in link.channels if channel.consumers][-1]

    @property
    def buried(self) -> list[tuple[str, str]]:
        """Code and field of each dead letter."""
        return [
            (delivery.properties.headers[CODE], delivery.properties.headers[FIELD])
            for delivery in self.broker.queues[QUEUES.dead]
        ]


async def test_a_delivery_is_acknowledged_when_its_job_has_ended_and_not_before() -> None:
    """Not when it is admitted, nor when it is painted: when its end is recorded."""
    inn = await Inn().opened()
    await inn.post()
    job = await inn.job()
    assert (job.owner, job.object_key) == (OWNER, "generations/gen-1.png")
    inn.house.painter.start(job.id)
    inn.house.painter.step(job.id, 1)
    await settle()
    assert (inn.broker.unacknowledged, inn.intake.held) == (1, 1)
    inn.house.painter.finish(job.id)
    await settle()
    assert (await inn.job()).state is JobState.SUCCEEDED
    assert (inn.broker.unacknowledged, inn.intake.held, len(inn.channel.acked)) == (0, 0, 1)
    await inn.close()


async def test_a_message_s_job_belongs_to_the_owner_that_its_header_names() -> None:
    """An account that is there; any other is refused, and the generation told so. Records that are away are waited for."""
    message = {"task_id": "task-1", "type": "image_generation", "data": {
        "generation_id": 1, "style_id": 1, "prompt": "a red star", "parameters": {"width": 64, "height": 64, "steps": 4},
    }}  # fmt: skip
    inn = await Inn().opened()
    inn.store.away = True
    await inn.post_body(message, **{OWNER_HEADER: "lovelace"})
    assert list(inn.house.painter.known) == []
    inn.store.away = False
    inn.clock.advance(TRY_AGAIN)
    await settle()
    job = await inn.store.find("lovelace", "task-1")
    assert job is not None
    assert job.owner == "lovelace"
    for stranger in ("mallory", 7, "local"):
        await inn.post_body({**message, "task_id": "task-2"}, **{OWNER_HEADER: stranger})
    assert inn.buried == [("PERMISSION_DENIED", OWNER_HEADER)] * 3
    assert inn.told[0] == (1, Code.PERMISSION_DENIED, "")
    await inn.close()


async def test_so_many_jobs_are_under_way_as_the_prefetch_allows() -> None:
    """All of them at once; the next comes when one has ended."""
    inn = await Inn(prefetch=3).opened()
    for number in range(1, 6):
        await inn.post(number)
    assert len(inn.house.painter.known) == 3
    await inn.fail(2)
    assert len(inn.house.painter.known) == 3
    assert inn.intake.held == 3
    await inn.close()


async def test_one_task_twice_at_once_is_one_job_and_both_deliveries_are_acknowledged() -> None:
    """Two publishers, one idempotency key: one picture."""
    inn = await Inn().opened()
    await inn.post()
    await inn.post()
    job = await inn.job()
    assert list(inn.house.painter.known) == [job.id]
    assert inn.broker.unacknowledged == 2
    inn.house.painter.paint(job.id)
    await settle()
    assert inn.broker.unacknowledged == 0
    await inn.post()
    assert len(inn.channel.acked) == 3
    await inn.close()


@pytest.mark.parametrize("how", ["channel", "link"])
async def test_a_delivery_that_comes_again_finds_its_job_wherever_that_is(how: str) -> None:
    """A lost channel, or connection, costs no job and paints none twice; tags of the old channel are not used on the new."""
    inn = await Inn().opened()
    await inn.post(1)
    await inn.post(2)
    old = inn.channel
    if how == "channel":
        old.fall("406 PRECONDITION_FAILED - delivery acknowledgement timed out")
    else:
        inn.broker.fall()
    await settle()
    inn.house.painter.paint((await inn.job(1)).id)
    await settle()
    assert inn.intake.held == 0
    await inn.house.pass_time(FIRST_PAUSE)
    assert inn.channel is not old
    assert len(inn.channel.acked) == 1
    inn.house.painter.paint((await inn.job(2)).id)
    await settle()
    assert (inn.broker.unacknowledged, len(inn.channel.acked), len(old.acked)) == (0, 2, 0)
    await inn.close()


async def test_a_deleted_queue_is_declared_and_consumed_again() -> None:
    """The consumer that the broker has ended is made anew."""
    inn = await Inn().opened()
    inn.broker.delete(QUEUES.jobs)
    await settle()
    await inn.house.pass_time(FIRST_PAUSE)
    await inn.house.pass_time(FIRST_PAUSE * 2)
    await inn.post()
    assert inn.intake.held == 1
    await inn.close()


async def test_a_channel_that_lasted_makes_the_pauses_short_again() -> None:
    """A consumer that is ended once an hour is back at once each time."""
    inn = await Inn().opened()
    for _ in range(6):
        await inn.house.pass_time(3600)
        inn.channel.fall("406")
        await settle()
        await inn.house.pass_time(FIRST_PAUSE)
        assert inn.channel.consumers
    await inn.close()


async def test_a_retry_waits_in_the_broker_and_its_copy_finds_the_job() -> None:
    """The copy takes the delivery's place when the broker has it; it comes back to the same job, and ends with it."""
    inn = await Inn().opened()
    await inn.post()
    job = await inn.job()
    await inn.fail(error=engine.OutOfMemory("no room"))
    await inn.house.pass_time(0)
    assert inn.broker.unacknowledged == 1, "the first retry comes at once, and is waited for"
    await inn.fail(error=engine.OutOfMemory("no room"))
    assert (inn.broker.unacknowledged, inn.intake.held) == (0, 0)
    (copy,) = inn.broker.queues[QUEUES.delay(30)]
    assert copy.properties.headers[JOB] == job.id
    assert (copy.properties.message_id, copy.properties.reply_to) == ("m", "shop")
    assert inn.broker.arguments[QUEUES.delay(30)] == {
        "x-message-ttl": 30_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": QUEUES.jobs,
    }  # fmt: skip
    await inn.house.pass_time(30)
    inn.broker.put(QUEUES.jobs, copy.body, copy.properties)
    await settle()
    assert inn.broker.unacknowledged == 1
    inn.house.painter.paint(job.id)
    await settle()
    assert (inn.broker.unacknowledged, (await inn.job()).state) == (0, JobState.SUCCEEDED)
    await inn.close()


async def test_a_copy_that_the_broker_does_not_take_leaves_the_delivery_waiting() -> None:
    """Until the broker has confirmed the copy the original is not acknowledged; at the end of the job it is."""
    inn = await Inn().opened()
    await inn.post()
    await inn.fail(error=engine.OutOfMemory("no room"))
    await inn.house.pass_time(0)
    inn.broker.refusing.add(QUEUES.delay(30))
    await inn.fail(error=engine.OutOfMemory("no room"))
    assert inn.broker.unacknowledged == 1
    await inn.house.pass_time(30)
    inn.house.painter.paint((await inn.job()).id)
    await settle()
    assert inn.broker.unacknowledged == 0
    await inn.close()


async def test_who_has_reached_a_limit_waits_in_the_broker() -> None:
    """In the queue with the longest delay that is not longer than the wait, as often as it takes; then it is painted."""
    inn = await Inn(rates=[Rate(REQUESTS, 1, 100)]).opened()
    await inn.post(1)
    await inn.post(2)
    await settle()
    (copy,) = inn.broker.queues[QUEUES.delay(30)]
    assert copy.properties.headers[LIMIT] == REQUESTS
    assert inn.house.places.taken == 1
    assert (inn.broker.unacknowledged, inn.told) == (1, [])
    assert inn.broker.bodies(QUEUES.dead) == []
    await inn.house.pass_time(100)
    inn.broker.put(QUEUES.jobs, copy.body, copy.properties)
    await settle()
    assert inn.house.places.taken == 2
    for job_id in list(inn.house.painter.known):
        inn.house.painter.paint(job_id)
    await settle()
    assert inn.broker.unacknowledged == 0
    await inn.close()


async def test_a_short_wait_for_a_limit_takes_no_way_round() -> None:
    """The delivery is held, and its job begins when there is room."""
    inn = await Inn(rates=[Rate(REQUESTS, 1, 20)]).opened()
    await inn.post(1)
    await inn.post(2)
    await settle()
    assert (inn.house.places.taken, inn.broker.unacknowledged) == (1, 2)
    assert inn.broker.bodies(QUEUES.delay(30)) == []
    await inn.house.pass_time(20)
    assert inn.house.places.taken == 2
    await inn.close()


async def test_a_delay_queue_that_stands_otherwise_is_not_used() -> None:
    """A queue of that name that would not give the handle back gets none; the door works without it."""
    inn = Inn()
    inn.broker.stand(QUEUES.delay(30), {"x-max-length": 5})
    inn.broker.stand(QUEUES.jobs, {"x-max-priority": 5})
    inn.broker.stand(QUEUES.dead)
    inn.broker.forbidden.add(QUEUES.dead)
    await inn.opened()
    await inn.post()
    await inn.fail(error=engine.OutOfMemory("no room"))
    await inn.house.pass_time(0)
    await inn.fail(error=engine.OutOfMemory("no room"))
    assert (inn.broker.unacknowledged, inn.broker.bodies(QUEUES.delay(30))) == (1, [])
    await inn.close()


async def test_what_is_refused_is_told_and_kept_and_does_not_come_again() -> None:
    """The generation's failed call is recorded, the message lies with the dead, the delivery is acknowledged; news says so."""
    inn = await Inn().opened()
    await inn.listen("news", REFUSED)
    await inn.post(1, prompt=" ")
    await inn.post(2, parameters={"width": 65, "height": 64, "steps": 4})
    await inn.post_body({"type": "dance"})
    inn.broker.put(QUEUES.jobs, b"{" * 10_001)
    await settle()
    assert inn.told == [(1, Code.INVALID_PARAMETER, ""), (2, Code.INVALID_PARAMETER, "")]
    news = [json.loads(body) for body in inn.broker.bodies("news")]
    assert [(one["idempotency_key"], one["message_id"], one["code"]) for one in news] == [
        ("task-1", "m", "INVALID_PARAMETER"), ("task-2", "m", "INVALID_PARAMETER"), ("", "m", "INVALID_PARAMETER"),
        ("", "", "FRAME_TOO_LARGE"),
    ]  # fmt: skip
    assert inn.buried == [
        ("INVALID_PARAMETER", "data.prompt"),
        ("INVALID_PARAMETER", "data.parameters.width"),
        ("INVALID_PARAMETER", "type"),
        ("FRAME_TOO_LARGE", "body"),
    ]
    first = inn.broker.queues[QUEUES.dead][0]
    assert json.loads(first.body)["task_id"] == "task-1"
    assert first.properties.message_id == "m"
    assert first.properties.headers[REASON].startswith("data.prompt must be")
    assert inn.broker.unacknowledged == 0
    await inn.close()


async def test_a_refused_message_of_a_generation_that_has_a_job_fails_no_generation() -> None:
    """Another body under a key that has a job, and a broken one: dead letters both, and the job goes on untold."""
    inn = await Inn().opened()
    await inn.post(1)
    await inn.post(1, prompt="another star")
    await inn.post(1, prompt=7)
    assert inn.buried == [("IDEMPOTENCY_CONFLICT", "task_id"), ("INVALID_PARAMETER", "data.prompt")]
    assert inn.told == []
    assert inn.intake.held == 1
    await inn.close()


async def test_a_refusal_waits_for_records_and_dead_letters() -> None:
    """While the failed call cannot be recorded, or the dead letter is not taken, the delivery is not acknowledged."""
    inn = await Inn().opened()
    inn.broker.refusing.add(QUEUES.dead)
    inn.store.away = True
    await inn.post(1, prompt=" ")
    assert (inn.told, inn.broker.unacknowledged) == ([], 1)
    inn.store.away = False
    await inn.house.pass_time(TRY_AGAIN)
    assert (len(inn.told), inn.broker.unacknowledged) == (1, 1)
    inn.broker.refusing.clear()
    await inn.house.pass_time(TRY_AGAIN)
    assert (len(inn.buried), inn.broker.unacknowledged) == (1, 0)
    await inn.close()


async def test_a_mistake_of_ours_is_not_made_for_ever() -> None:
    """A message that the server errs on is buried as INTERNAL_ERROR, not delivered again and again."""
    inn = await Inn().opened()

    async def err(command: Submit | Predict) -> Admitted:
        raise ZeroDivisionError

    inn.submit = err
    await inn.post()
    assert (inn.buried, inn.told) == ([("INTERNAL_ERROR", "")], [(1, Code.INTERNAL_ERROR, "")])
    await inn.close()


async def test_what_the_server_cannot_take_now_waits_in_its_queue() -> None:
    """Records that are away, and places that are taken, cost no message; it is admitted when they are there again."""
    inn = await Inn(pending_per_owner=1).opened()
    inn.store.away = True
    await inn.post(1)
    assert (inn.broker.unacknowledged, inn.buried) == (1, [])
    inn.store.away = False
    await inn.house.pass_time(TRY_AGAIN)
    await inn.post(2)
    assert len(inn.house.painter.known) == 1
    inn.house.painter.paint((await inn.job(1)).id)
    await settle()
    await inn.house.pass_time(60)
    assert len(inn.house.painter.known) == 1
    inn.house.painter.paint((await inn.job(2)).id)
    await settle()
    assert (inn.broker.unacknowledged, inn.buried) == (0, [])
    await inn.close()


async def test_a_server_that_can_paint_no_more_leaves_the_queue_to_others() -> None:
    """When the engine has died, what was delivered is given back, and nothing more is taken."""
    inn = await Inn().opened()
    inn.house.health.engine_died("no device")
    await inn.post(1)
    assert (inn.broker.unacknowledged, len(inn.broker.bodies(QUEUES.jobs)), inn.buried) == (0, 1, [])
    await inn.close()


async def test_a_stop_takes_nothing_more_and_acknowledges_what_still_ends() -> None:
    """While the server drains, ended jobs are acknowledged; what has not ended when it closes is delivered again."""
    inn = await Inn(prefetch=2).opened()
    for number in (1, 2, 3):
        await inn.post(number)
    channel = inn.channel
    inn.intake.stop_taking()
    await settle()
    inn.house.painter.paint((await inn.job(1)).id)
    await settle()
    assert len(channel.acked) == 1
    assert len(inn.house.painter.known) == 1
    await inn.lasting.stop()
    await inn.publisher.stop()
    assert len(inn.broker.bodies(QUEUES.jobs)) == 2


def with_picture(number: int = 1) -> dict[str, Any]:
    """A message whose signature is a picture in the storage."""
    data = {
        "generation_id": number, "prompt": "a red star", "model": "demo", "signature_path": "signatures/ada.png",
        "lora_path": "a",
    }  # fmt: skip
    return {"task_id": f"task-{number}", "type": "image_generation", "data": data}


async def test_a_signature_s_picture_is_fetched_before_the_job_is_admitted() -> None:
    """A storage that is away is asked again after each delay; then the job has the picture."""
    inn = await Inn().opened()

    async def submit(command: Submit | Predict) -> Admitted:
        assert isinstance(command, Submit)
        return await inn.house.submit(replace(command, adapters=(), width=64, height=64))

    inn.submit = submit
    inn.shelf.kept["signatures/ada.png"] = ConnectionError("away")
    await inn.post_body(with_picture())
    await inn.house.pass_time(0)
    assert inn.shelf.reads == 2
    png = a_png()
    inn.shelf.kept["signatures/ada.png"] = png
    await inn.house.pass_time(30)
    signature = (await inn.job()).signature
    assert signature is not None
    assert signature.mark == ImageMark(png)
    await inn.close()


async def test_a_signature_s_picture_that_cannot_be_had_is_a_refusal() -> None:
    """One that is none is refused at once, one that cannot be read when the last retry is over."""
    inn = await Inn().opened()
    inn.shelf.kept["signatures/ada.png"] = Refusal.invalid("signature", "the key of a PNG", "signatures/ada.png")
    await inn.post_body(with_picture(1))
    inn.shelf.kept["signatures/ada.png"] = b"no picture"
    await inn.post_body(with_picture(2))
    inn.shelf.kept["signatures/ada.png"] = ConnectionError("away")
    await inn.post_body(with_picture(3))
    for delay in DELAYS:
        await inn.house.pass_time(delay)
    assert inn.buried == [
        ("INVALID_PARAMETER", "data.signature_path"),
        ("INVALID_PARAMETER", "data.signature_path"),
        ("STORAGE_FAILED", "data.signature_path"),
    ]
    assert [number for number, _, _ in inn.told] == [1, 2, 3]
    await inn.close()


async def test_a_stop_does_not_wait_for_a_picture() -> None:
    """A message that waits for the storage is left unacknowledged."""
    inn = await Inn().opened()
    inn.shelf.kept["signatures/ada.png"] = ConnectionError("away")
    await inn.post_body(with_picture())
    await inn.house.pass_time(0)
    await inn.close()
    assert len(inn.broker.bodies(QUEUES.jobs)) == 1
    assert inn.clock.getDelayedCalls() == []
