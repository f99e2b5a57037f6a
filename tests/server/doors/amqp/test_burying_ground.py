"""Looking at dead letters, replaying and purging them, on the broker in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.doors.amqp.broker import Delivery, NotPublished, Properties
from server.doors.amqp.burying_ground import BuryingGround, DeadLetter
from server.doors.amqp.dead_letters import MAX_REASON, REASON, buried
from server.doors.amqp.queues import Queues
from server.errors import Code, Refusal
from tests.server.doors.amqp.fake_broker import FakeBroker

QUEUES = Queues("image_generation")
PROPERTIES = Properties(message_id="m-1", headers={"x-mine": 1})


async def ground_of(*letters: tuple[dict[str, Any] | bytes, Refusal]) -> tuple[FakeBroker, BuryingGround]:
    """A broker with these dead letters."""
    broker = FakeBroker()
    broker.stand(QUEUES.jobs)
    broker.stand(QUEUES.dead)
    for number, (message, refusal) in enumerate(letters):
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        delivery = Delivery(tag=1, body=body, properties=PROPERTIES)
        broker.put(QUEUES.dead, body, buried(delivery, refusal, queue=QUEUES.jobs, at=1000.5 + number))
    return broker, BuryingGround(await broker.connect("testing"), QUEUES)


BAD_WIDTH = Refusal.invalid("data.width", "64 to 512", 7)
NO_MODEL = Refusal(Code.MODEL_NOT_FOUND, "no model", field="model")
TASK = {"task_id": "t-1", "data": {"generation_id": 17}}


async def test_letters_are_told_and_stay_where_they_are() -> None:
    """Whatever form a message has, what names it is found; looking takes nothing away."""
    broker, ground = await ground_of(
        (TASK, BAD_WIDTH), ({"generation_id": 18}, NO_MODEL), (b"not JSON", NO_MODEL), (b"[1]", NO_MODEL),
        ({"idempotency_key": "o-1"}, NO_MODEL),
    )  # fmt: skip
    first, *others = await ground.letters(10)
    assert first == DeadLetter(
        key="t-1",
        generation_id=17,
        code="INVALID_PARAMETER",
        field="data.width",
        reason="data.width must be 64 to 512, not 7",
        at=1000,
        queue=QUEUES.jobs,
        size=len(json.dumps(TASK)),
    )
    assert [(letter.key, letter.generation_id) for letter in others] == [
        ("m-1", 18), ("m-1", None), ("m-1", None), ("o-1", None),
    ]  # fmt: skip
    assert [letter.key for letter in await ground.letters(2)] == ["t-1", "m-1"]
    assert len(broker.bodies(QUEUES.dead)) == 5
    assert broker.bodies(QUEUES.dead)[0] == json.dumps(TASK).encode()


async def test_replayed_letters_go_where_they_came_from_as_they_came() -> None:
    """All of them, or those of one key or code; the others stay in their order."""
    broker, ground = await ground_of((TASK, BAD_WIDTH), (b"not JSON", NO_MODEL), ({"task_id": "t-2"}, NO_MODEL))
    assert [letter.key for letter in await ground.replay(code="INVALID_PARAMETER")] == ["t-1"]
    (again,) = broker.queues[QUEUES.jobs]
    assert (again.body, again.properties) == (json.dumps(TASK).encode(), PROPERTIES)
    assert len(await ground.replay(key="t-2")) == 1
    assert await ground.replay(key="t-2") == []
    assert broker.bodies(QUEUES.dead) == [b"not JSON"]
    assert len(await ground.replay()) == 1
    assert len(broker.bodies(QUEUES.jobs)) == 3


async def test_a_letter_that_cannot_be_published_stays() -> None:
    """What the broker does not take is not acknowledged."""
    broker, ground = await ground_of((TASK, BAD_WIDTH))
    broker.refusing.add(QUEUES.jobs)
    with pytest.raises(NotPublished):
        await ground.replay()
    broker.fall()
    assert len(broker.bodies(QUEUES.dead)) == 1


async def test_a_replay_ends_though_letters_are_refused_again() -> None:
    """It takes those that were there when it began."""
    broker, ground = await ground_of((TASK, BAD_WIDTH), (TASK, BAD_WIDTH))
    broker.bindings.clear()
    put = broker.put

    def refused_at_once(queue: str, body: bytes, properties: Properties | None = None) -> None:
        put(QUEUES.dead, body, properties)

    broker.put = refused_at_once  # type: ignore[method-assign]
    assert len(await ground.replay()) == 2
    assert len(broker.bodies(QUEUES.dead)) == 2


async def test_a_purge_empties_the_queue() -> None:
    """And says of how many."""
    broker, ground = await ground_of((TASK, BAD_WIDTH), (TASK, BAD_WIDTH))
    assert await ground.purge() == 2
    assert broker.bodies(QUEUES.dead) == []


def test_a_long_reason_is_cut() -> None:
    """Headers have to fit into one frame."""
    delivery = Delivery(tag=1, body=b"", properties=Properties())
    headers = buried(delivery, Refusal(Code.INVALID_PARAMETER, "x" * 5000), queue="q", at=1.0).headers
    assert len(headers[REASON]) == MAX_REASON
