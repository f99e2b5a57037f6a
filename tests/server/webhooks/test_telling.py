"""From what happens to the jobs of a node to what is recorded to be told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, select

from server.database.schema import outbox as table
from server.errors import Code, JobFailure, RecordsUnavailable
from server.webhook import HookKind, Webhook
from server.webhooks.telling import Telling
from tests.server.database.opened import Opened, opened
from tests.server.fakes import CARD, OTHER_CARD, TEXT_CARD, settle
from tests.server.house import House

BACKEND = "http://backend.test"
HOOK = Webhook(kind=HookKind.BACKEND, generation_id=17)
OTHERS = Webhook(kind=HookKind.GENERIC, url="https://hooks.test/")


class Told:
    """A house whose jobs are told of."""

    def __init__(self, database: Opened, **given: Any) -> None:
        self.database = database
        self.telling = Telling(
            outbox=given.pop("outbox", database.outbox),
            live_job=lambda job_id: self.house.lifecycle.live_job(job_id),
            said=lambda job_id: self.house.board.said(job_id),
            backend_url=BACKEND,
            clock=given.pop("clock", _Still()),
        )
        self.house = House(store=database.store, announcer=self.telling, **given)
        self.house.board.tap(self.telling)

    def calls(self) -> list[str]:
        """The names of the calls, in their order."""
        with self.database.reading.connect() as connection:
            return list(connection.execute(select(table.c.name).order_by(table.c.position)).scalars())

    async def painted(self, steps: int, hook: Webhook | None = HOOK) -> str:
        """A job of so many steps, from its acceptance to its end."""
        job = await self.house.job(num_inference_steps=steps, webhook=hook)
        self.house.painter.start(job.id)
        await settle()
        for step in range(1, steps + 1):
            self.house.painter.step(job.id, step)
            await settle()
        self.house.painter.finish(job.id)
        await settle()
        return job.id


class _Still:
    """A clock that stands."""

    def seconds(self) -> float:
        return 1_000_000.0


@pytest.fixture
def told(sqlite_url: URL) -> Iterator[Told]:
    """On an empty database."""
    with opened(sqlite_url) as database:
        yield Told(database)


async def test_a_painting_is_told_by_its_milestones_and_its_end(told: Told) -> None:
    """Each once, in order, and nothing of what lies between."""
    await told.painted(50)
    assert told.calls() == ["progress-0", "progress-25", "progress-50", "progress-75", "progress-90", "end"]


async def test_others_are_told_of_start_progress_and_end(told: Told) -> None:
    """Progress twice a second at most."""
    await told.painted(50, OTHERS)
    first, progress, last = told.calls()
    assert (first, progress.partition("-")[0], last) == ("start", "progress", "end")


async def test_who_asked_for_nothing_hears_nothing(told: Told) -> None:
    """A job without a webhook leaves no trace in the outbox."""
    await told.painted(4, None)
    assert told.calls() == []


async def test_a_text_is_told_on_its_way_and_whole_at_its_end(sqlite_url: URL) -> None:
    """The body is the prediction, whose output is the text so far."""
    with opened(sqlite_url) as database:
        told = Told(database, cards=(CARD, OTHER_CARD, TEXT_CARD))
        job = await told.house.text(webhook=OTHERS, given={"max_length": 8})
        told.house.painter.start(job.id)
        await settle()
        told.house.painter.speak(job.id, 0, "one two")
        told.house.painter.step(job.id, 2)
        await settle()
        told.house.painter.answer(job.id, "one two three")
        await settle()
        with database.reading.connect() as connection:
            payloads = connection.execute(select(table.c.payload).order_by(table.c.position)).scalars().all()
    bodies = [json.loads(payload)["body"] for payload in payloads]
    assert [(body["status"], body["output"], body["progress_step"]) for body in bodies] == [
        ("processing", None, 0), ("processing", "one two", 2), ("succeeded", "one two three", 3),
    ]  # fmt: skip
    assert bodies[-1]["metrics"]["output_token_count"] == 3


async def test_a_cancelled_job_is_told_once(told: Told) -> None:
    """With the transition that ends it, though it was never begun."""
    job = await told.house.job(webhook=HOOK)
    told.house.lifecycle.cancel(job.id)
    await settle()
    assert told.calls() == ["end"]


async def test_a_message_that_becomes_no_job_is_told_once(told: Told) -> None:
    """However often it is delivered."""
    for _ in range(2):
        await told.telling.refused(17, JobFailure(Code.INVALID_PARAMETER, "no prompt"), "")
    assert told.calls() == ["end"]
    with told.database.reading.connect() as connection:
        assert connection.execute(select(table.c.job_id)).scalar_one() is None


async def test_progress_that_could_not_be_recorded_is_told_with_the_next(sqlite_url: URL) -> None:
    """The database was away for a moment; the job goes on."""

    class Away:
        failing = True

        async def add(self, calls: Any, **how: Any) -> None:
            if Away.failing:
                raise RecordsUnavailable("gone")
            await database.outbox.add(calls, **how)

    with opened(sqlite_url) as database:
        told = Told(database, outbox=Away())
        job = await told.house.job(num_inference_steps=20, webhook=HOOK)
        told.house.painter.start(job.id)
        await settle()
        told.house.painter.step(job.id, 6)
        await settle()
        Away.failing = False
        told.house.painter.step(job.id, 7)
        await settle()
        assert told.calls() == ["progress-0", "progress-25"]


async def test_the_address_is_looked_at_before_the_job_is_accepted(sqlite_url: URL) -> None:
    """And nothing of a refused one is kept."""
    seen: list[Webhook] = []
    with opened(sqlite_url) as database:
        told = Told(database, check_webhook=seen.append)
        await told.house.job(webhook=OTHERS)
        await told.house.job()
        assert seen == [OTHERS]
