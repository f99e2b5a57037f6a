"""Job records in a database: the contracts over SQLite and PostgreSQL, and what the database itself holds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, Connection, event, text
from sqlalchemy.exc import DatabaseError

from server.database import statements
from server.database.address import address
from server.database.listing import page_statement
from server.database.rows import move_values
from server.database.schema import job_inputs, jobs
from server.database.statements import move_sql
from server.database.writing import GroupWriter
from server.errors import Code, JobFailure, RecordsUnavailable
from server.interfaces import JobStore
from server.job import IllegalTransition, JobState, LeaseLost, moved
from server.listing import JobPage, JobPlace
from tests.server.database.contract import (
    ARTIFACT,
    REQUEST,
    WAYS,
    JobStoreContract,
    RecordsContract,
    RecordsStore,
    a_job,
    brought_to,
)
from tests.server.database.opened import Opened, opened
from tests.server.fakes import HoldingPool, settle
from tests.server.moving import move_job
from tests.server.pictures import a_png
from watermark import ImageMark, Signature

INSERTS_AND_UPDATES = re.compile(r"INSERT INTO \w+|UPDATE \w+")


class TestSqlJobStore(JobStoreContract):
    """The contract of every store."""

    @pytest.fixture
    def store(self, database: Opened) -> JobStore:
        """One on an empty database."""
        return database.store


class TestSqlRecords(RecordsContract):
    """The contract of a node's records."""

    @pytest.fixture
    def nodes(self, url: URL) -> Iterator[tuple[RecordsStore, RecordsStore]]:
        """Two on one database."""
        with opened(url, "node-1") as one, opened(url, "node-2") as two:
            yield one.store, two.store


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED])
async def test_the_database_itself_lets_no_job_leave_its_end(database: Opened, state: JobState) -> None:
    """Whoever writes, with whatever program."""
    await brought_to(database.store, state, a_job())
    for other in set(JobState) - {state}:
        completed = "" if other in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED) else ", completed_at = NULL"
        with database.writing.connect() as connection, pytest.raises(DatabaseError, match="stays as it ended"):
            connection.execute(text(f"UPDATE jobs SET state = '{other.value}'{completed}"))


@pytest.mark.parametrize(
    "change", ["fence = 0", "state = 'lost'", "state = 'failed'", "completed_at = 1.0", "state = NULL"]
)
async def test_the_database_itself_refuses_what_makes_no_sense(database: Opened, change: str) -> None:
    """A lease going back, a state that there is not, an end without its time."""
    await brought_to(database.store, JobState.PROCESSING, a_job())
    with database.writing.connect() as connection, pytest.raises(DatabaseError):
        connection.execute(text(f"UPDATE jobs SET {change}"))


async def test_nothing_is_left_of_a_picture_that_came_with_an_ended_job(database: Opened) -> None:
    """Its row goes in the transaction that ends the job."""
    job = a_job(signature=Signature(ImageMark(a_png(40, 30))))
    await brought_to(database.store, JobState.PROCESSING, job)
    with database.reading.connect() as connection:
        assert len(connection.execute(job_inputs.select()).all()) == 2
    await move_job(database.store, job.id, JobState.CANCELED, fence=1, at=9.0, last_event=9)
    with database.reading.connect() as connection:
        assert connection.execute(job_inputs.select()).all() == []


async def test_a_row_of_an_earlier_version_has_today_s_defaults(database: Opened) -> None:
    """What a request could not say then is what nobody said."""
    await database.store.admit(a_job())
    with database.writing.connect() as connection:
        connection.execute(
            text("UPDATE jobs SET request = :request"),
            {
                "request": '{"request_id": "job-1", "model": "demo", "prompt": "a", "width": 64, "height": 64, '
                '"num_inference_steps": 2, "guidance_scale": 1, "seed": 3, "gone_since": true}'
            },
        )
        connection.commit()
    kept = await database.store.get("job-1")
    assert kept is not None
    assert (kept.pictures_asked.prompt, kept.pictures_asked.num_images, kept.pictures_asked.adapters) == ("a", 1, ())


async def test_a_job_id_that_no_database_takes_is_no_job(database: Opened) -> None:
    """A NUL comes from a stranger, and is answered like any other id that is not there."""
    assert await database.store.get("job\0") is None
    assert await database.store.find("ada", "key\0") is None


def _number(number: int, connection: Connection) -> Any:
    return connection.execute(text(f"SELECT {number}")).scalar()


class Commits:
    """Counts an engine's commits."""

    def __init__(self, database: Opened) -> None:
        self.count = 0
        event.listen(database.writing, "commit", self._count)

    def _count(self, connection: Connection) -> None:
        self.count += 1


async def test_jobs_that_go_together_are_written_together(database: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten that come at once, begin and end: as many statements as one has."""
    seen: list[str] = []
    driver = statements._driver

    def counted(connection: Connection, sql: str) -> AbstractContextManager[Any]:
        seen.extend(INSERTS_AND_UPDATES.findall(sql))
        return driver(connection, sql)

    monkeypatch.setattr(statements, "_driver", counted)
    news = [a_job(f"job-{number}", idempotency_key=f"key-{number}") for number in range(10)]
    await asyncio.gather(*map(database.store.admit, news))
    begun = [moved(job, JobState.PROCESSING, at=1.0, last_event=1) for job in news]
    await asyncio.gather(*map(database.store.move, begun))
    ended = [moved(job, JobState.SUCCEEDED, at=2.0, last_event=2, artifacts=(ARTIFACT,)) for job in begun]
    assert await asyncio.gather(*map(database.store.move, ended)) == ended
    assert seen == ["INSERT INTO jobs", "UPDATE jobs", "UPDATE jobs", "INSERT INTO artifacts", "INSERT INTO usage"]
    assert [await database.store.get(job.id) for job in ended] == ended


async def test_a_job_that_is_refused_harms_none_that_it_was_to_be_written_with(database: Opened) -> None:
    """A key that is there already, a lease that is lost, an end that was recorded before: each has its own answer."""
    older = await database.store.admit(a_job("older", idempotency_key="key"))
    new, other = a_job("new", idempotency_key="another"), a_job("other")
    repeated = a_job("repeated", idempotency_key="key")
    assert await asyncio.gather(*map(database.store.admit, [new, repeated, other, repeated])) == [
        new,
        older,
        other,
        older,
    ]
    first = moved(new, JobState.CANCELED, at=5.0, last_event=1)
    await database.store.move(first)
    stale = moved(replace(other, fence=0), JobState.CANCELED, at=5.0, last_event=1)
    sound = moved(older, JobState.CANCELED, at=5.0, last_event=1)
    twice = moved(new, JobState.CANCELED, at=6.0, last_event=1)
    moves = [database.store.move(job) for job in (stale, first, sound, twice)]
    outcomes = await asyncio.gather(*moves, return_exceptions=True)
    assert outcomes[1:3] == [first, sound]
    assert [type(outcome) for outcome in (outcomes[0], outcomes[3])] == [LeaseLost, IllegalTransition]
    assert await database.store.get("older") == sound
    assert await database.store.get("other") == other


async def test_writes_that_wait_share_a_commit(database: Opened) -> None:
    """The first goes at once; those that came meanwhile go together."""
    commits = Commits(database)
    pool = HoldingPool()
    writer = GroupWriter(database.writing, pool)
    first = asyncio.ensure_future(writer.write(partial(_number, 1), durable=True))
    await settle()
    others = [asyncio.ensure_future(writer.write(partial(_number, n), durable=n % 2 == 0)) for n in range(2, 52)]
    await settle()
    pool.gate.set()
    assert await first == 1
    assert await asyncio.gather(*others) == list(range(2, 52))
    assert commits.count == 2


async def test_one_that_breaks_the_transaction_breaks_it_for_itself_alone(database: Opened) -> None:
    """The others are written all the same, and each hears its own answer."""
    pool = HoldingPool()
    writer = GroupWriter(database.writing, pool)

    def insert(job_id: str, state: str) -> Any:
        return lambda connection: connection.execute(
            jobs.insert().values(
                id=job_id, owner="ada", body_hash="", request="{}", created_at=1.0, state=state, warnings="[]",
                last_event=0, attempts=0, node="n", lease_until=1.0, fence=1,
            )
        ).rowcount  # fmt: skip

    def refuse(connection: Connection) -> None:
        raise IllegalTransition("job-3", JobState.FAILED, JobState.QUEUED)

    def err(connection: Connection) -> None:
        raise ZeroDivisionError

    works = [insert("job-0", "queued"), insert("job-1", "nonsense"), refuse, err, insert("job-4", "queued")]
    done = [asyncio.ensure_future(writer.write(work, durable=True)) for work in works]
    await settle()
    pool.gate.set()
    answers = await asyncio.gather(*done, return_exceptions=True)
    kinds = [type(answer) for answer in answers]
    assert kinds[0] is kinds[4] is int
    assert issubclass(kinds[1], DatabaseError)
    assert kinds[2:4] == [IllegalTransition, ZeroDivisionError]
    with database.reading.connect() as connection:
        assert sorted(connection.execute(jobs.select()).scalars()) == ["job-0", "job-4"]


async def test_a_full_disk_refuses_what_is_new_and_keeps_what_there_is(sqlite_url: URL) -> None:
    """As UNAVAILABLE, without the database's words; and when there is room again, all is well."""
    with opened(sqlite_url) as there:
        await there.store.admit(a_job())
        with there.writing.connect() as connection:
            pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        with pytest.raises(RecordsUnavailable) as caught:
            await asyncio.gather(*(there.store.admit(a_job(f"job-{number}")) for number in range(2, 200)))
        assert "full" in caught.value.reason
        assert "full" not in str(caught.value)
        assert await there.store.get("job-1") is not None
        with there.writing.connect() as connection:
            connection.exec_driver_sql("PRAGMA max_page_count = 100000")
        await there.store.admit(a_job("job-300"))


async def test_another_program_s_lock_is_waited_for_and_then_refused(sqlite_url: URL) -> None:
    """As long as the time-out says, on the database's thread; readers do not notice."""
    with opened(sqlite_url, timeout=0.1) as there, opened(sqlite_url) as other:
        await there.store.admit(a_job())
        with other.writing.connect() as connection:
            connection.execute(text("SELECT 1"))  # begins, and so locks
            with pytest.raises(RecordsUnavailable) as caught:
                await there.store.admit(a_job("job-2"))
            assert await there.store.get("job-1") is not None
        assert "locked" in caught.value.reason
        await there.store.admit(a_job("job-2"))


async def test_admission_and_end_wait_for_the_disk_and_the_way_between_does_not(sqlite_url: URL) -> None:
    """What was promised survives a power failure; what can be done again need not cost a commit's wait."""
    waits: list[int] = []
    with opened(sqlite_url) as there:

        @event.listens_for(there.writing, "commit")
        def note(connection: Connection) -> None:
            driver: Any = connection.connection.driver_connection
            waits.append(driver.execute("PRAGMA synchronous").fetchone()[0])

        await brought_to(there.store, JobState.SUCCEEDED, a_job())
    full, normal = 2, 1
    assert waits == [full, normal, normal, full]
    assert WAYS[JobState.SUCCEEDED] == (JobState.STARTING, JobState.PROCESSING, JobState.SUCCEEDED)


async def test_a_reader_holds_up_no_writer(sqlite_url: URL) -> None:
    """One that is in the middle of reading keeps nobody waiting, and the next one sees what was written meanwhile."""
    with opened(sqlite_url, timeout=0.1) as there:
        for number in range(3):
            await there.store.admit(a_job(f"job-{number}"))
        with there.reading.connect() as connection:
            rows = connection.execution_options(yield_per=1).execute(jobs.select())
            assert rows.fetchone() is not None
            await there.store.admit(a_job("job-3"))
            assert await there.store.get("job-3") is not None
            assert len(rows.fetchall()) == 2


def test_the_rows_hold_every_field_of_a_request() -> None:
    """The contract's example leaves nothing at its default, or a field that was forgotten would not show."""
    left = [entry.name for entry in fields(REQUEST) if getattr(REQUEST, entry.name) == entry.default]
    assert left == ["solver", "saved"]  # which has a table of its own


@pytest.mark.parametrize("page", [JobPage(), JobPage(before=JobPlace(1.0, "a")), JobPage(after=JobPlace(1.0, "a"))])
def test_a_list_is_read_by_an_index(tmp_path: Path, page: JobPage) -> None:
    """However many jobs there are, nothing is sorted, and nobody else's are looked at."""
    with opened(address("", tmp_path)) as database, database.reading.connect() as connection:
        statement = page_statement("ada", page).compile(database.reading, compile_kwargs={"literal_binds": True})
        plan = " ".join(row.detail for row in connection.execute(text(f"EXPLAIN QUERY PLAN {statement}")))
    assert "USING INDEX jobs_of_owner (owner=?" in plan
    assert "SORTER" not in plan.upper()
    assert "TEMP B-TREE" not in plan


async def test_deadlines_are_found_in_the_records_by_their_number(database: Opened) -> None:
    """Whatever number the code has: the words of a failure never look like it."""
    for number, code in enumerate(set(Code) - {Code.OK}):
        job = await database.store.admit(a_job(f"job-{number}"))
        failure = JobFailure(code, f'"code":{Code.DEADLINE_EXCEEDED.value},')
        await move_job(database.store, job.id, JobState.FAILED, fence=1, at=9.0, last_event=1, failure=failure)
    (found,), more = await database.store.page("ada", JobPage(states=frozenset({JobState.FAILED}), overdue=True))
    assert found.failure is not None
    assert (found.failure.code, more) == (Code.DEADLINE_EXCEEDED, False)


async def test_a_job_that_ends_while_it_is_read_is_read_as_it_ended(database: Opened) -> None:
    """Its end takes its inputs with it; that may come between the reading of its row and of them."""
    await database.store.admit(a_job(signature=Signature(ImageMark(a_png()))))
    ends: list[str] = []

    def end_it(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "FROM job_inputs" in statement and not ends:
            ends.append(statement)
            with database.writing.begin() as other:
                ended = "state = 'canceled', completed_at = created_at + 1, last_event = 1, signature = NULL"
                other.execute(text(f"UPDATE jobs SET {ended} WHERE id = 'job-1'"))
                other.execute(text("DELETE FROM job_inputs WHERE job_id = 'job-1'"))

    event.listen(database.reading, "before_cursor_execute", end_it)
    found = await database.store.get("job-1")
    assert found is not None
    assert (found.state, found.signature) == (JobState.CANCELED, None)
    assert len(ends) == 1


async def test_a_job_that_is_forgotten_while_it_is_read_is_not_there(database: Opened) -> None:
    """It may have ended, and its record been cleaned away, between the reading of its row and of what came with it."""
    await database.store.admit(a_job(signature=Signature(ImageMark(a_png()))))
    forgotten: list[str] = []

    def forget_it(connection: Any, cursor: Any, statement: str, *more: Any) -> None:
        if "FROM job_inputs" in statement and not forgotten:
            forgotten.append(statement)
            with database.writing.begin() as other:
                other.execute(text("DELETE FROM jobs WHERE id = 'job-1'"))

    event.listen(database.reading, "before_cursor_execute", forget_it)
    assert await database.store.get("job-1") is None
    assert len(forgotten) == 1


async def test_what_many_do_at_once_is_recorded_for_each(database: Opened) -> None:
    """Texts and numbers of every kind come back as they were given; who may not move a job does not keep the others from it."""
    store = database.store
    strange = "\" \\ ' {} % :x \u00e9 \u4e2d \U0001f600 \x7f"
    given = [
        a_job(f"job-{n}", idempotency_key=f"{strange}{n}", created_at=1763750000.123456 + n / 7) for n in range(20)
    ]
    jobs = await asyncio.gather(*map(store.admit, given))
    assert await asyncio.gather(*(store.get(job.id) for job in jobs)) == given
    begun = [moved(job, JobState.PROCESSING, at=job.created_at + 1 / 3, last_event=2**40) for job in jobs]
    begun[3] = replace(begun[3], fence=9)
    outcomes = await asyncio.gather(*map(store.move, begun), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == [
        "LeaseLost" if number == 3 else "Job" for number in range(20)
    ]
    failure = JobFailure(Code.STORAGE_FAILED, strange, field=strange)
    ended = [
        moved(job, JobState.FAILED, at=job.created_at + 2 / 3, last_event=7, warnings=(strange,), failure=failure)
        for number, job in enumerate(begun)
        if number != 3
    ]
    await asyncio.gather(*map(store.move, ended))
    kept = [job for job in await asyncio.gather(*(store.get(job.id) for job in ended)) if job is not None]
    assert [replace(job, failure=None) for job in kept] == [replace(job, failure=None) for job in ended]
    assert all(job.failure is not None and vars(job.failure) == vars(failure) for job in kept)


def test_a_transition_records_all_that_it_is_given() -> None:
    """Each value has its column, on both databases."""
    given = set(move_values(a_job()))
    for dialect in ("sqlite", "postgresql"):
        sql = move_sql(dialect, JobState.SUCCEEDED)
        assert {name for name in given if f".{name}" in sql or f":{name}" in sql} == given
