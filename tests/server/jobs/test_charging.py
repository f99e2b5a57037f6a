"""A job is charged against its owner's rates when it is admitted: once, and not where there is no job in the end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from ai.custom.cards import ClassPath, CustomCard
from server.commands import Predict
from server.errors import Code, RecordsUnavailable, Refusal
from server.job import Job
from server.limits import COST, REQUESTS, LimitReached, Rate
from server.metering.cost import cost_of
from server.webhook import OutboxCall
from tests.server.fakes import CARD, TEXT_CARD, settle
from tests.server.house import ADA, BOB, House
from tests.server.memory import MemoryJobStore

TWO = Rate(REQUESTS, 2, 60)
COSTING = Rate(COST, 1, 60)  # a job of the tests costs 64 × 72 × 20 steps: 0.092


async def refused(house: House, owner: str = ADA, **wishes: Any) -> LimitReached:
    """A job that one of its owner's rates does not let through."""
    with pytest.raises(LimitReached) as caught:
        await house.job(owner=owner, **wishes)
    return caught.value


async def test_jobs_are_counted_by_owner() -> None:
    """And nothing is left of one that is refused: no place, no record."""
    house = House(rates=[TWO])
    await house.job()
    await house.job()
    refusal = await refused(house)
    assert (refusal.name, refusal.retry_after_seconds) == (REQUESTS, 60.0)
    assert house.places.taken == 2
    await house.job(owner=BOB)
    await house.pass_time(60)
    await house.job()
    assert house.reached == [REQUESTS]


async def test_cost_is_that_of_the_request_with_its_defaults() -> None:
    """Ten of 0.0922 are within 1, whoever filled in the steps."""
    house = House(rates=[COSTING], pending_per_owner=20, pending=20)
    for _ in range(10):
        await house.job()
    assert (await refused(house)).name == COST
    await house.job(num_inference_steps=10)
    await refused(house)


async def test_texts_and_calls_of_custom_models_are_charged_too() -> None:
    """A text by the tokens that it may have, a call at what it costs; both are recorded with that."""
    scaler = CustomCard(name="scaler", path=ClassPath("a.b", "C"), cost=0.9)
    house = House(rates=[COSTING], cards=(CARD, TEXT_CARD, scaler))
    text = await house.text(given={"max_length": 50})
    call = (await house.submit(Predict(owner=ADA, model="scaler"))).job
    assert [cost_of((await house.kept(job.id)).request) for job in (text, call)] == [0.05, 0.9]
    await house.text(given={"max_length": 50})
    with pytest.raises(LimitReached, match="cost"):
        await house.text(given={"max_length": 50})


async def test_what_would_cost_beyond_all_measure_is_no_job() -> None:
    """It is refused by the name of the input, as any that does not fit; nothing is charged, no place taken."""
    schema = {"times": {"type": "integer"}}
    scaler = CustomCard(name="scaler", path=ClassPath("a.b", "C"), input_schema=schema, cost_by={"times": 0.5})
    house = House(rates=[TWO], cards=(CARD, scaler))
    with pytest.raises(Refusal) as refused:
        await house.submit(Predict(owner=ADA, model="scaler", input={"times": 10**400}))
    assert (refused.value.code, refused.value.field) == (Code.INVALID_PARAMETER, "input.times")
    assert house.is_free()
    for _ in range(2):
        await house.submit(Predict(owner=ADA, model="scaler", input={"times": 1}))


async def test_a_repeated_request_is_charged_once() -> None:
    """However often it comes, also when its owner has nothing left."""
    house = House(rates=[TWO])
    first = await house.job(idempotency_key="key")
    for _ in range(3):
        assert (await house.job(idempotency_key="key")).id == first.id
    await house.job()
    assert (await house.job(idempotency_key="key")).id == first.id
    await refused(house, idempotency_key="another")


async def test_the_same_request_twice_at_once_is_charged_once() -> None:
    """Both are charged on their way; the one that finds the other's job gives its charge back."""
    house = House(rates=[TWO])
    twice = await asyncio.gather(*(house.job(idempotency_key="key") for _ in range(2)))
    assert twice[0].id == twice[1].id
    await house.job()
    await refused(house)


async def test_what_is_refused_for_something_else_is_not_charged() -> None:
    """A bad field, no place."""
    house = House(rates=[TWO], pending_per_owner=1)
    with pytest.raises(Refusal):
        await house.job(num_inference_steps=1000)
    first = await house.job()
    for _ in range(3):
        with pytest.raises(Refusal) as caught:
            await house.job()
        assert not isinstance(caught.value, LimitReached)
    house.painter.paint(first.id)
    await settle()
    await house.job()


class Away(MemoryJobStore):
    """A store that admits nothing for a while."""

    away = True

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """Or not."""
        if self.away:
            raise RecordsUnavailable("away")
        return await super().admit(job, calls, leased=leased)


async def test_a_job_that_could_not_be_recorded_is_not_charged() -> None:
    """The database is away: nobody has a job, and nobody pays."""
    store = Away(100)
    house = House(rates=[TWO], store=store)
    for _ in range(3):
        with pytest.raises(RecordsUnavailable):
            await house.job()
    store.away = False
    await house.job()
    await house.job()
    await refused(house)
