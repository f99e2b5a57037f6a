"""Which job was answered under which key: one owner's alone, for as long as the job is remembered."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from server.database.answers import SqlAnswers
from server.database.schema import answers
from server.job import JobState
from tests.server.database.contract import a_job, brought_to
from tests.server.database.opened import Opened


@pytest.fixture
def records(database: Opened) -> SqlAnswers:
    """On either database."""
    return SqlAnswers(database.store._writer, database.store._reader)


async def ended(database: Opened, job_id: str, owner: str = "ada") -> str:
    """A job that has succeeded."""
    await brought_to(database.store, JobState.SUCCEEDED, a_job(job_id, owner=owner))
    return job_id


async def test_the_latest_job_under_a_key_is_found_by_its_owner(database: Opened, records: SqlAnswers) -> None:
    """By nobody else, and not when it is too old."""
    for number, job_id in enumerate(("job-1", "job-2")):
        await records.keep("key", "ada", await ended(database, job_id), at=100.0 + number)
    assert await records.earlier("key", "ada", since=101.0) == "job-2"
    assert await records.earlier("key", "ada", since=101.5) is None
    assert await records.earlier("key", "bob", since=0.0) is None
    assert await records.earlier("other", "ada", since=0.0) is None


async def test_a_key_goes_with_its_job(database: Opened, records: SqlAnswers) -> None:
    """The cleaning has taken its pictures; and nothing is kept of a job that is gone, or another owner's."""
    await records.keep("key", "ada", await ended(database, "job-1"), at=1.0)
    await database.store.forget(["job-1"])
    assert await records.earlier("key", "ada", since=0.0) is None
    await records.keep("key", "ada", "job-1", at=2.0)
    await records.keep("key", "bob", await ended(database, "job-2"), at=3.0)
    assert await records.earlier("key", "ada", since=0.0) is None
    assert await records.earlier("key", "bob", since=0.0) is None


async def test_old_ones_and_the_oldest_of_too_many_are_forgotten(database: Opened, records: SqlAnswers) -> None:
    """As the settings say."""
    for number in range(6):
        await records.keep(f"key-{number}", "ada", await ended(database, f"job-{number}"), at=float(number))

    def left() -> list[str]:
        with database.reading.connect() as connection:
            return list(connection.execute(select(answers.c.key).order_by(answers.c.at)).scalars())

    await records.forget(beyond=10, before=2.0)
    assert left() == ["key-2", "key-3", "key-4", "key-5"]
    await records.forget(beyond=2, before=0.0)
    assert left() == ["key-4", "key-5"]
