"""`atelier dlq`, as an operator runs it, on a real broker."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pika
import pytest

from server.doors.amqp.dead_letters import CODE, FIELD, QUEUE, REASON, REFUSED_AT
from tests.atelier.command import run
from tests.rabbitmq import PASSWORD, USER, RabbitNode

JOBS, DEAD = "dlq-test", "dlq-test.dead"


@pytest.fixture
def settings(rabbitmq: RabbitNode) -> Iterator[dict[str, str]]:
    """A broker with two dead letters, and the settings that lead there."""
    connection = rabbitmq.connect()
    channel = connection.channel()
    for name in (JOBS, DEAD):
        channel.queue_declare(name, durable=True)
    for number, code in ((1, "INVALID_PARAMETER"), (2, "MODEL_NOT_FOUND")):
        headers = {CODE: code, FIELD: "width", REASON: f"reason {number}", REFUSED_AT: 1_700_000_000, QUEUE: JOBS}
        body = json.dumps({"task_id": f"t-{number}"}).encode()
        channel.basic_publish("", DEAD, body, pika.BasicProperties(headers=headers))
    yield {
        "RABBITMQ_HOST": "127.0.0.1", "RABBITMQ_PORT": str(rabbitmq.port), "RABBITMQ_USER": USER,
        "RABBITMQ_PASS": PASSWORD, "ATELIER_RABBITMQ_QUEUE": JOBS,
    }  # fmt: skip
    for name in (JOBS, DEAD):
        channel.queue_delete(name)
    connection.close()


async def test_letters_are_listed_replayed_and_purged(settings: dict[str, str]) -> None:
    """Each command says what it did, and `list` shows the reason, for people and for programs."""
    listed = await run("dlq", "list", **settings)
    assert (listed.status, listed.err) == (0, "")
    assert "t-1" in listed.out
    assert "reason 2" in listed.out
    as_json = await run("dlq", "list", "--json", "--limit", "1", **settings)
    assert json.loads(as_json.out)["reason"] == "reason 1"
    replayed = await run("dlq", "replay", "--code", "MODEL_NOT_FOUND", **settings)
    assert (replayed.status, replayed.err) == (0, "1 published anew\n")
    unsure = await run("dlq", "purge", **settings)
    assert unsure.status == 2
    assert "--yes" in unsure.err
    assert (await run("dlq", "purge", "--yes", **settings)).err == "1 thrown away\n"
    assert (await run("dlq", "list", **settings)).err == "there are none\n"


async def test_a_person_is_told_that_a_generation_has_had_its_end(
    settings: dict[str, str], rabbitmq: RabbitNode
) -> None:
    """Before a replay and after it: it will be painted, and nobody hears of it."""
    channel = rabbitmq.channel()
    for number in range(12):
        channel.basic_publish("", DEAD, json.dumps({"generation_id": 70 + number}).encode())
    listed = await run("dlq", "list", **settings)
    assert listed.err.startswith("the end of generation 70, 71, ")
    assert "79 and 2 more has been told" in listed.err
    assert "new generation_id" in listed.err
    replayed = await run("dlq", "replay", "--key", "71", **settings)
    assert replayed.err.startswith("1 published anew\nthe end of generation 71 has been told")
    channel.connection.close()


async def test_what_stands_in_the_way_is_told_in_one_line(settings: dict[str, str]) -> None:
    """No broker in the settings, a wrong password, no queue: an exit status that is not 0, and no traceback or secret."""
    nowhere = await run("dlq", "list", **{**settings, "RABBITMQ_HOST": ""})
    assert (nowhere.status, nowhere.err.split(":")[0]) == (2, "RABBITMQ_HOST")
    wrong = await run("dlq", "list", **{**settings, "RABBITMQ_PASS": f"not-{PASSWORD}"})
    assert wrong.status == 1
    assert "ACCESS_REFUSED" in wrong.err
    assert PASSWORD not in wrong.err
    missing = await run("dlq", "list", **{**settings, "ATELIER_RABBITMQ_QUEUE": "another"})
    assert missing.status == 1
    assert "no queue 'another.dead'" in missing.err
