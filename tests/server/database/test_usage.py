"""Usage is recorded with the end of a job, once; and what it adds up to, for bills, models and daily quotas."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import URL, select

from ai.types import CustomRequest, Finished, GenerationRequest, Stepped
from ai.types import Phase as EnginePhase
from server.database.schema import quotas, usage
from server.database.usage import Metering, SqlUsage, over_quota, set_quota
from server.errors import Code, JobFailure, Refusal
from server.events import Artifact
from server.job import Job, JobState, LeaseLost, moved
from server.limits import DAILY_COST, DAILY_PICTURES, LimitReached
from server.metering.usage import By, DeviceTimes, Prices, Quota, UsageQuery
from tests.server.database.contract import a_job as any_job
from tests.server.database.contract import brought_to
from tests.server.database.opened import Opened, opened

DAY = 86_400.0
MORNING = 20_000 * DAY + 9 * 3600  # 2024-10-04
REQUEST = GenerationRequest(
    request_id="", model="demo", prompt="a star", width=1000, height=1000, num_inference_steps=2, guidance_scale=1, seed=1,
    num_images=2,
)  # fmt: skip
PRICES = Prices(picture=0.5, gpu_second=2.0)


def a_job(job_id: str, *, at: float = MORNING, model: str = "demo", owner: str = "ada", **changes: Any) -> Job:
    """One of two pictures, which costs 4."""
    request = replace(REQUEST, request_id=job_id, model=model)
    return any_job(job_id, created_at=at, owner=owner, request=request, signature=None, **changes)


class Books:
    """A node's store with all that it needs to know of usage."""

    def __init__(self, there: Opened, times: DeviceTimes) -> None:
        self.there = there
        self.times = times
        self.records = SqlUsage(there.store._reader, there.store._writer)

    async def end(self, job: Job, state: JobState = JobState.SUCCEEDED, seconds: float = 0.0) -> None:
        """Carry a job out; the engine told of so many seconds."""
        if seconds:
            self.times.engine_events([Stepped(job.id, EnginePhase.DENOISING, 1, 2, 0.5, 0.0, seconds / 2)])
            self.times.engine_events([Finished(job.id, (), (), seconds)])
        await brought_to(self.there.store, state, job)

    def rows(self) -> list[Any]:
        """What is recorded, by job."""
        with self.there.reading.connect() as connection:
            return list(connection.execute(select(usage).order_by(usage.c.job_id)).all())


def books_of(url: URL, node: str = "node-1", quota: Quota | None = None) -> Any:
    """`with books_of(url) as books`."""

    @contextmanager
    def opening() -> Iterator[Books]:
        times = DeviceTimes()
        with opened(url, node, metering=Metering(times, PRICES, quota or Quota())) as there:
            yield Books(there, times)

    return opening()


@pytest.fixture
def books(url: URL) -> Iterator[Books]:
    """Without quotas."""
    with books_of(url) as found:
        yield found


async def test_what_a_job_used_is_recorded_with_its_end(books: Books) -> None:
    """Not before; with its price, which later prices do not change."""
    job = a_job("job-1")
    await books.there.store.admit(job)
    books.times.engine_events([Finished(job.id, (), (), 1.5)])
    begun = moved(job, JobState.PROCESSING, at=MORNING + 5, last_event=1)
    await books.there.store.move(begun)
    assert books.rows() == []
    ended = moved(begun, JobState.SUCCEEDED, at=MORNING + 9, last_event=2)
    await books.there.store.move(ended)
    (row,) = books.rows()
    assert (row.owner, row.model, row.state, row.day) == ("ada", "demo", "succeeded", 20_000)
    assert (row.asked_at, row.started_at, row.ended_at) == (MORNING, MORNING + 5, MORNING + 9)
    assert (row.pictures, row.tokens, row.cost, row.gpu_seconds, row.price) == (2, 0, 4.0, 1.5, 4.0)
    assert books.times.of(job.id) == 0.0, "it is forgotten with the end"


async def test_an_end_that_is_recorded_once_more_counts_once(books: Books) -> None:
    """Its answer was lost on the way; the second time nothing is known of the device's seconds any more."""
    job = a_job("job-1")
    await books.end(job, seconds=3.0)
    ended = await books.there.store.get("job-1")
    assert ended is not None
    assert await books.there.store.move(ended) == ended
    (row,) = books.rows()
    assert row.gpu_seconds == 3.0


async def test_a_refused_end_records_no_usage(books: Books) -> None:
    """They are one transaction: where the lease has gone to another node, neither is recorded."""
    job = a_job("job-1")
    await books.there.store.admit(job)
    begun = await books.there.store.move(moved(job, JobState.PROCESSING, at=MORNING, last_event=1))
    stale = replace(begun, fence=0)
    with pytest.raises(LeaseLost):
        await books.there.store.move(moved(stale, JobState.SUCCEEDED, at=MORNING + 1, last_event=2))
    assert books.rows() == []


@pytest.mark.parametrize(
    ("state", "pictures", "cost", "price"),
    [(JobState.SUCCEEDED, 2, 4.0, 7.0), (JobState.FAILED, 0, 0.0, 0.0), (JobState.CANCELED, 0, 4.0, 6.0)],
)
async def test_only_what_came_of_a_job_is_charged(
    books: Books, state: JobState, pictures: int, cost: float, price: float
) -> None:
    """Failures cost their owner nothing; who cancels what had begun pays for the device's time."""
    job = a_job("job-1")
    books.times.engine_events([Finished(job.id, (), (), 3.0)])
    await books.there.store.admit(job)
    begun = await books.there.store.move(moved(job, JobState.PROCESSING, at=MORNING, last_event=1))
    failure = JobFailure(Code.GENERATION_FAILED, "no") if state is JobState.FAILED else None
    await books.there.store.move(moved(begun, state, at=MORNING + 1, last_event=2, failure=failure))
    (row,) = books.rows()
    assert (row.pictures, row.cost, row.price, row.gpu_seconds) == (pictures, cost, price, 3.0)


async def test_pictures_of_a_custom_model_are_counted_as_they_come(url: URL) -> None:
    """Billed as any other, and the day has less room by them; the next call is let in, and no picture of a painter."""
    call = CustomRequest(request_id="job-1", model="scaler", cost=0.5)
    picture: dict[str, Any] = {
        "url": "",
        "size": 10,
        "sha256": "",
        "content_type": "image/png",
        "width": 8,
        "height": 8,
    }
    pictures = tuple(Artifact(image_index=index, key=f"jobs/job-1/{index}.png", seed=1, **picture) for index in (0, 1))
    with books_of(url, quota=Quota(pictures=2)) as books:
        first = replace(a_job("job-1"), request=call)
        await books.there.store.admit(first)
        books.times.engine_events([Finished(first.id, (), (), 1.5)])
        begun = await books.there.store.move(moved(first, JobState.PROCESSING, at=MORNING, last_event=1))
        ended = moved(begun, JobState.SUCCEEDED, at=MORNING + 1, last_event=2, artifacts=pictures)
        await books.there.store.move(ended)
        (row,) = books.rows()
        assert (row.pictures, row.cost, row.gpu_seconds, row.price) == (2, 0.5, 1.5, 4.0)
        again = replace(a_job("job-2"), request=replace(call, request_id="job-2"))
        await books.there.store.admit(again)
        with pytest.raises(LimitReached, match="2 pictures a day"):
            await books.there.store.admit(a_job("job-3"))


@pytest.mark.parametrize("state", [JobState.CANCELED, JobState.FAILED])
async def test_a_custom_model_s_seconds_are_counted_to_a_cancel(books: Books, state: JobState) -> None:
    """Or to its deadline: a predict that says nothing on its way was at it all the same."""
    job = replace(a_job("job-1"), request=CustomRequest(request_id="job-1", model="scaler", cost=0.5))
    await books.there.store.admit(job)
    begun = await books.there.store.move(moved(job, JobState.PROCESSING, at=MORNING, last_event=1))
    failure = JobFailure(Code.DEADLINE_EXCEEDED, "late") if state is JobState.FAILED else None
    await books.there.store.move(moved(begun, state, at=MORNING + 7, last_event=2, failure=failure))
    (row,) = books.rows()
    assert (row.gpu_seconds, row.price) == (7.0, 14.0 if state is JobState.CANCELED else 0.0)


async def test_seconds_that_a_custom_model_told_are_not_added_to(books: Books) -> None:
    """Whoever cancels while a picture that could not be stored waits for its next try does not pay for the waiting."""
    told, untold = (
        replace(a_job(name), request=CustomRequest(request_id=name, model="scaler", cost=0.5)) for name in ("a", "b")
    )
    books.times.engine_events([Finished("a", (), (), 1.5)])
    for job in (told, untold):  # of the second another node was told, or a server that was ended since
        await books.there.store.admit(job)
        begun = await books.there.store.move(moved(job, JobState.PROCESSING, at=MORNING, last_event=1))
        waits = await books.there.store.move(moved(begun, JobState.RETRYING, at=MORNING + 2, last_event=2))
        await books.there.store.move(moved(waits, JobState.CANCELED, at=MORNING + 152, last_event=3))
    assert [(row.gpu_seconds, row.price) for row in books.rows()] == [(1.5, 3.0), (0.0, 0.0)]


async def test_what_was_cancelled_before_it_began_costs_nothing(books: Books) -> None:
    """No cost, no price."""
    job = a_job("job-1")
    await books.there.store.admit(job)
    await books.there.store.move(moved(job, JobState.CANCELED, at=MORNING + 1, last_event=1))
    (row,) = books.rows()
    assert (row.cost, row.price, row.started_at) == (0.0, 0.0, None)


@pytest.mark.parametrize(("share", "cost", "price"), [(0.0, 0.0, 0.0), (0.25, 1.0, 0.25)])
async def test_what_was_answered_as_before_costs_the_share_that_is_set(
    url: URL, share: float, cost: float, price: float
) -> None:
    """Nothing was made; of the sums it is told how many jobs were such. Their times are none of the model's."""
    with opened(url, metering=Metering(DeviceTimes(), replace(PRICES, cached_share=share))) as there:
        books = Books(there, DeviceTimes())
        await books.end(a_job("job-1"))
        job = a_job("job-2", at=MORNING + 1)
        await there.store.admit(job)
        begun = await there.store.move(moved(job, JobState.PROCESSING, at=MORNING + 2, last_event=1))
        await there.store.move(moved(begun, JobState.SUCCEEDED, at=MORNING + 30, last_event=2, figures={"cached": 1.0}))
        _, row = books.rows()
        assert (row.cached, row.pictures, row.cost, row.price) == (True, 0, cost, price)
        (line,) = await books.records.usage(UsageQuery(owner="ada", since=20_000, until=20_000))
        assert (line.jobs, line.succeeded, line.cached, line.pictures) == (2, 2, 1, 2)
        figures = await books.records.figures(["demo"], "ada", 0.0)
        assert (figures.jobs, figures.cached) == (2, 1)
        assert figures.predict_seconds == (2.0, 2.0, 2.0)


async def test_usage_outlives_its_job_until_it_is_old(books: Books) -> None:
    """Jobs are forgotten after a month; who pays asks later."""
    await books.end(a_job("job-1"))
    await books.end(a_job("job-2", at=MORNING + DAY))
    await books.there.store.forget(["job-1", "job-2"])
    await books.records.forget(MORNING + DAY)
    assert [row.job_id for row in books.rows()] == ["job-2"]


async def test_usage_is_added_up_as_it_is_asked_for(books: Books) -> None:
    """By day, model, owner, or all together; of one owner or of all; from one day to another."""
    await books.end(a_job("job-1"), seconds=1.0)
    await books.end(a_job("job-2", model="other"), seconds=2.0)
    await books.end(a_job("job-3", at=MORNING + DAY))
    await books.end(a_job("job-4", at=MORNING + DAY), JobState.CANCELED)
    await books.end(a_job("job-5", owner="bob"))
    asked = UsageQuery(owner="ada", since=20_000, until=20_001)
    first, second, third = await books.records.usage(asked)
    assert (first.day, first.model, first.owner, first.jobs, first.gpu_seconds) == ("2024-10-04", "demo", None, 1, 1.0)
    assert (second.model, second.price) == ("other", 5.0)
    assert (third.day, third.jobs, third.succeeded, third.canceled, third.pictures) == ("2024-10-05", 2, 1, 1, 2)
    (all_days,) = await books.records.usage(replace(asked, by=()))
    assert (all_days.jobs, all_days.day, all_days.model) == (4, None, None)
    owners = await books.records.usage(replace(asked, owner=None, by=(By.OWNER,), until=20_000))
    assert [(line.owner, line.jobs) for line in owners] == [("ada", 2), ("bob", 1)]
    assert await books.records.usage(replace(asked, owner="nobody", by=())) == []


async def test_a_model_s_figures(books: Books) -> None:
    """How many succeeded, how long they waited and took, of one owner's jobs or of all, in a window."""
    for number in range(10):
        job = a_job(f"job-{number}")
        await books.there.store.admit(job)
        begun = await books.there.store.move(moved(job, JobState.PROCESSING, at=MORNING + number, last_event=1))
        await books.there.store.move(moved(begun, JobState.SUCCEEDED, at=MORNING + 2 * number, last_event=2))
    await books.end(a_job("job-old", at=MORNING - DAY))
    await books.end(a_job("job-bob", owner="bob"), JobState.FAILED)
    found = await books.records.figures(["demo"], "ada", MORNING)
    assert (found.jobs, found.succeeded, found.success_share, found.pictures) == (10, 10, 1.0, 20)
    assert (found.queue_seconds, found.total_seconds) == ((5.0, 8.0, 9.0), (10.0, 16.0, 18.0))
    everybody = await books.records.figures(["demo"], None, 0.0)
    assert (everybody.jobs, everybody.failed, everybody.success_share) == (12, 1, round(11 / 12, 6))
    nothing = await books.records.figures(["nobody-s"], None, 0.0)
    assert (nothing.jobs, nothing.success_share, nothing.queue_seconds) == (0, None, None)


# Daily quotas


async def refused(books: Books, job: Job) -> Refusal:
    """A job that the day has no room for."""
    with pytest.raises(Refusal) as caught:
        await books.there.store.admit(job)
    return caught.value


async def test_a_day_has_room_for_so_many_pictures(url: URL) -> None:
    """What waits, runs and has succeeded counts; the refusal says when the next day begins; others have days of their own."""
    with books_of(url, quota=Quota(pictures=6)) as books:
        await books.end(a_job("job-1"))
        await books.there.store.admit(a_job("job-2"))
        await books.end(a_job("job-3"), JobState.FAILED)
        await books.there.store.admit(a_job("job-4"))
        refusal = await refused(books, a_job("job-5"))
        assert isinstance(refusal, LimitReached)
        assert (refusal.name, refusal.code) == (DAILY_PICTURES, Code.RESOURCE_EXHAUSTED)
        assert (refusal.limit, refusal.retry_after_seconds) == ("6 pictures a day (UTC)", 15 * 3600.0)
        assert "2024-10-05T00:00Z" in str(refusal)
        assert await books.there.store.get("job-5") is None
        await books.there.store.admit(a_job("job-6", owner="bob"))
        await books.there.store.admit(a_job("job-7", at=MORNING + 15 * 3600))
        assert isinstance(await refused(books, a_job("job-8", at=MORNING + 15 * 3600 - 1)), LimitReached)


async def test_a_day_has_room_for_so_much_cost(url: URL) -> None:
    """And what alone is more than a day's is no matter of waiting."""
    with books_of(url, quota=Quota(cost=7)) as books:
        await books.there.store.admit(a_job("job-1"))
        refusal = await refused(books, a_job("job-2"))
        assert isinstance(refusal, LimitReached)
        assert refusal.name == DAILY_COST
    with books_of(url, quota=Quota(pictures=1)) as books:
        refusal = await refused(books, a_job("job-3"))
        assert (refusal.code, refusal.field) == (Code.INVALID_PARAMETER, "num_images")


async def test_a_repeated_request_needs_no_room(url: URL) -> None:
    """It is the job that it was."""
    with books_of(url, quota=Quota(pictures=2)) as books:
        await books.there.store.admit(a_job("job-1", idempotency_key="key"))
        assert (await books.there.store.admit(a_job("job-2", idempotency_key="key"))).id == "job-1"
        await refused(books, a_job("job-3", idempotency_key="another"))


async def test_what_comes_at_once_is_counted_one_by_one(url: URL) -> None:
    """In one commit, and on two nodes; those that fit are not held up by those that do not."""
    with books_of(url, quota=Quota(pictures=6)) as one, books_of(url, "node-2", Quota(pictures=6)) as other:
        jobs = [(books, a_job(f"{number}-{name}")) for number in range(5) for name, books in (("a", one), ("b", other))]
        outcomes = await asyncio.gather(*(books.there.store.admit(job) for books, job in jobs), return_exceptions=True)
        assert sum(isinstance(outcome, Job) for outcome in outcomes) == 3
        assert sum(isinstance(outcome, LimitReached) for outcome in outcomes) == 7


async def test_an_owner_s_own_quota_comes_before_the_settings(url: URL) -> None:
    """More, less, none at all, or as much as they like; from the next job on."""
    with books_of(url, quota=Quota(pictures=2)) as books:
        for own, outcomes in (
            (Quota(pictures=4), [True, True, False]),
            (Quota(), [True] * 4),
            (Quota(pictures=0), [False]),
            (None, [True, False]),
        ):
            with books.there.writing.connect() as connection:
                connection.execute(usage.delete())
                connection.exec_driver_sql("DELETE FROM jobs")
                set_quota(connection, "ada", own)
                connection.commit()
            for number, fits in enumerate(outcomes):
                if fits:
                    await books.there.store.admit(a_job(f"job-{number}"))
                else:
                    await refused(books, a_job(f"job-{number}"))
        with books.there.reading.connect() as connection:
            assert connection.execute(select(quotas)).all() == []


async def test_owners_with_and_without_a_quota_of_their_own_at_once(url: URL) -> None:
    """Of one group each owner's jobs go by his own quota, and a key that is known gives the job that it has."""
    with books_of(url) as books:
        with books.there.writing.connect() as connection:
            set_quota(connection, "ada", Quota(pictures=3))
            connection.commit()
        older = await books.there.store.admit(a_job("old", owner="bob", idempotency_key="again"))
        jobs = [
            a_job("a-1", idempotency_key="a-1"),
            a_job("b-1", owner="bob", idempotency_key="b-1"),
            a_job("a-2", idempotency_key="a-2"),
            a_job("b-2", owner="bob", idempotency_key="again"),
            a_job("b-3", owner="bob", idempotency_key="b-3"),
        ]
        outcomes = await asyncio.gather(*map(books.there.store.admit, jobs), return_exceptions=True)
        assert [job.id for job in outcomes if isinstance(job, Job)] == ["a-1", "b-1", older.id, "b-3"]
        assert isinstance(outcomes[2], LimitReached)
        with books.there.writing.connect() as connection:
            set_quota(connection, "ada", None)
            connection.commit()
        assert (await books.there.store.admit(jobs[2])).id == "a-2"


async def test_without_quotas_nothing_is_added_up(books: Books) -> None:
    """One look for owners' own, no more."""
    with books.there.reading.connect() as connection:
        assert over_quota(connection, [(a_job("job-1"), None)], Quota()) == {}


def test_tries_of_a_job_add_up() -> None:
    """What a job took before it was tried again it has taken; progress that is told twice is the same time."""
    times = DeviceTimes()
    for seconds in (1.0, 2.0, 2.0):
        times.engine_events([Stepped("job-1", EnginePhase.DENOISING, 1, 2, 0.5, 0.0, seconds)])
    assert times.of("job-1") == 2.0
    times.engine_events([Finished("job-1", (), (), 2.5)])
    times.engine_events([Stepped("job-1", EnginePhase.DENOISING, 1, 2, 0.5, 0.0, 1.0)])
    assert times.of("job-1") == 3.5
    times.forget("job-1")
    assert (times.of("job-1"), times.of("unknown")) == (0.0, 0.0)
