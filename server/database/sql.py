"""Job records in a database: SQLite or PostgreSQL, by one code path.

Every transition is one UPDATE that names the states it may leave and the fence of who may make it; where it matches no row, the
job is as it was. The same transition of several jobs is the same statement for all of them (`_moves`), as is their admission.
The database's own triggers hold the two rules that must never break, whoever writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, or_, select, update

from ai.types import SavedImage
from server.database.listing import read_page
from server.database.outbox import Bell, add_calls
from server.database.reading import Reader
from server.database.rows import (
    JobRows,
    artifact_of,
    artifact_row,
    call_row,
    has_inputs,
    job_of,
    key_text,
    move_values,
    rows_of,
)
from server.database.schema import IS_ENDED, IS_LIVE, artifacts, jobs, outbox, usage
from server.database.statements import (
    ADD_INPUTS,
    ADD_LATENTS,
    ARTIFACTS,
    DROP_LATENTS,
    ENDED,
    FIND,
    GET,
    INPUTS,
    LATENTS,
    add_free_jobs,
    add_jobs,
    add_new,
    attempts_but_this,
    end_all,
    move_all,
)
from server.database.usage import Metering, over_quota
from server.database.writing import GroupWriter, Several
from server.events import Artifact
from server.job import (
    BEGUN,
    TERMINAL,
    IllegalTransition,
    Job,
    JobState,
    LeaseLost,
    is_recorded,
)
from server.listing import JobPage
from server.metering.usage import Quota
from server.webhook import OutboxCall

EVENTS_OF_A_LIFE = 100_000
"""What a job's event numbers rise by when it is taken up: progress is not recorded, and 1000 steps of 4 pictures say less."""

NOBODY = ""
"""The node of a job that waits for one to take it."""


class SqlJobStore:
    """A `JobStore`, `Leases` and `Forgetting` of one node. Leases last `lease` seconds."""

    def __init__(
        self,
        *,
        writer: GroupWriter,
        reader: Reader,
        node: Callable[[], str],
        lease: float,
        bell: Bell,
        metering: Metering,
    ) -> None:
        self._metering = metering
        self._admissions: Several[_New, Job] = Several(0, partial(_admit, quota=metering.quota))
        self._writer = writer
        self._reader = reader
        self._node = node
        self._bell = bell
        self._lease = lease
        self._with_more: set[str] = set()  # live jobs here that may have rows of job_inputs or latents

    # Jobs

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """Keep a new job and return it, or the one that has its idempotency key already."""
        rows = rows_of(job)
        if leased:
            rows.job.update(node=self._node(), lease_until=job.created_at + self._lease)
        else:
            rows.job.update(node=NOBODY, lease_until=job.created_at)
        if rows.inputs:
            self._with_more.add(job.id)
        new = _New(job, rows, [call_row(call, at=job.created_at) for call in calls])
        kept = await self._writer.write_one(self._admissions, new, durable=True)
        self._bell.ring(calls)
        return kept

    async def withdraw(self, job_id: str) -> None:
        """Undo `admit`, of which it is not known whether it was recorded."""
        await self._writer.write(partial(_withdraw, job_id=job_id), durable=True)

    async def find(self, owner: str, idempotency_key: str) -> Job | None:
        """The owner's job under this key."""
        return await self._reader.read(partial(_find, owner=owner, key=idempotency_key)) if idempotency_key else None

    async def get(self, job_id: str) -> Job | None:
        """The job, whoever owns it."""
        return None if "\0" in job_id else await self._reader.read(partial(_get, job_id=job_id))

    async def page(self, owner: str, page: JobPage) -> tuple[list[Job], bool]:
        """The owner's jobs, newest first."""
        return await self._reader.read(partial(read_page, owner=owner, page=page))

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """Record a transition. Raises IllegalTransition, LeaseLost."""
        at = job.completed_at or job.started_at or job.created_at
        ends = job.state in TERMINAL
        more = ends and job.id in self._with_more
        used = self._metering.row(job) if ends else None
        change = _Change(job, [call_row(call, at=at) for call in calls], more, used)
        recorded = await self._writer.write_one(_MOVES[job.state], change, durable=ends)
        if ends:
            self._metering.times.forget(job.id)
        if more:
            self._with_more.discard(job.id)
        self._bell.ring(calls)
        return recorded

    # How far images are

    async def keep_latents(self, job_id: str, images: Sequence[SavedImage], *, fence: int) -> None:
        """In place of older ones."""
        rows = [
            {"job_id": job_id, "image_index": image.index, "step": image.step, "data": image.data} for image in images
        ]
        self._with_more.add(job_id)
        await self._writer.write(partial(_keep_latents, job_id=job_id, fence=fence, rows=rows), durable=False)

    async def latents(self, job_id: str) -> tuple[SavedImage, ...]:
        """What was kept."""
        return await self._reader.read(partial(_latents, job_id=job_id))

    # Leases

    async def take_up(self, *, at: float, begin: bool) -> list[Job]:
        """Jobs whose lease has expired, and if this node begins, those of its earlier life."""
        expired = and_(jobs.c.node.not_in((self._node(), NOBODY)), jobs.c.lease_until < at)
        mine = jobs.c.node == self._node()
        return await self._take(or_(expired, mine) if begin else expired, at)

    async def take(self, job_id: str, *, at: float) -> Job | None:
        """This job under this node's lease, queued anew; None where it has ended or another node's lease holds."""
        free = and_(jobs.c.node != self._node(), jobs.c.lease_until <= at)
        return next(iter(await self._take(and_(jobs.c.id == job_id, free), at)), None)

    async def take_away(self, job_id: str, *, at: float) -> Job | None:
        """This job under this node's lease, queued anew, whoever had it."""
        theirs = and_(jobs.c.id == job_id, jobs.c.node != self._node())
        return next(iter(await self._take(theirs, at)), None)

    async def held(self) -> frozenset[str]:
        """Live jobs of this node."""
        statement = select(jobs.c.id).where(jobs.c.node == self._node(), IS_LIVE)
        return await self._reader.read(lambda connection: frozenset(connection.execute(statement).scalars()))

    async def _take(self, which: ColumnElement[bool], at: float) -> list[Job]:
        taken = await self._writer.write(partial(_queue_anew, which=which, values=self._taken(at)), durable=True)
        self._with_more.update(job.id for job in taken)
        return taken

    async def unclaimed(self, *, since: float, most: int) -> list[str]:
        """Jobs that wait for a node."""
        which = and_(jobs.c.node == NOBODY, jobs.c.lease_until < since, IS_LIVE)
        statement = select(jobs.c.id).where(which).order_by(jobs.c.lease_until).limit(most)
        return await self._reader.read(lambda connection: list(connection.execute(statement).scalars()))

    def _taken(self, at: float) -> dict[str, Any]:
        return {
            "node": self._node(),
            "lease_until": at + self._lease,
            "fence": jobs.c.fence + 1,
            "last_event": jobs.c.last_event + EVENTS_OF_A_LIFE,
        }

    async def renew(self, *, at: float) -> None:
        """Every lease of this node."""
        statement = update(jobs).where(jobs.c.node == self._node(), IS_LIVE).values(lease_until=at + self._lease)
        await self._writer.write(lambda connection: _run(connection, statement), durable=False)

    async def give_back(self, *, at: float) -> None:
        """Every lease of this node; an attempt that a stop cut short is none."""
        spare = update(jobs).where(jobs.c.node == self._node(), IS_LIVE).values(attempts=attempts_but_this())

        def work(connection: Connection) -> None:
            _run(connection, spare)
            _queue_anew(connection, which=jobs.c.node == self._node(), values={"lease_until": at - 1.0})

        await self._writer.write(work, durable=True)

    # What is old

    async def oldest(self, *, beyond: int, ended_before: float, more_bytes_than: int, most: int) -> list[Job]:
        """Ended jobs to forget."""
        return await self._reader.read(
            partial(_oldest, beyond=beyond, ended_before=ended_before, more_bytes_than=more_bytes_than, most=most)
        )

    async def forget(self, job_ids: Sequence[str]) -> None:
        """Ended jobs and what belongs to them."""
        which = and_(jobs.c.id.in_(job_ids), IS_ENDED)
        await self._writer.write(lambda connection: _delete(connection, which), durable=False)


# On the database's threads


@dataclass(frozen=True, slots=True)
class _New:
    """A job to admit, and its calls' rows."""

    job: Job
    rows: JobRows
    calls: list[dict[str, Any]]


def _admit(connection: Connection, news: Sequence[_New], *, quota: Quota) -> list[Job | Exception]:
    """Each one, or the one that has its idempotency key, or why its owner has no room for it today."""
    kept: set[str] = set()
    if quota == Quota():  # then most owners have none
        kept = _there(connection, news, add_free_jobs(connection, [new.rows.job for new in news]))
    rest = [new for new in news if new.job.id not in kept]
    refused = over_quota(connection, [(new.job, new.rows.job["idempotency_key"]) for new in rest], quota)
    asked = [new for new in rest if new.job.id not in refused]
    if asked:
        kept |= _there(connection, asked, add_jobs(connection, [new.rows.job for new in asked]))
    inputs = [row for new in news if new.job.id in kept for row in new.rows.inputs]
    if inputs:
        connection.execute(ADD_INPUTS, inputs)
    add_calls(connection, [row for new in news if new.job.id in kept for row in new.calls])
    return [refused.get(new.job.id) or (new.job if new.job.id in kept else _older(connection, new.job)) for new in news]


def _there(connection: Connection, news: Sequence[_New], added: int) -> set[str]:
    """Those of them that have been added now, who are so many."""
    ids = {new.job.id for new in news}
    if added in (0, len(ids)):
        return ids if added else set()
    return set(connection.execute(select(jobs.c.id).where(jobs.c.id.in_(ids))).scalars())


def _older(connection: Connection, job: Job) -> Job:
    older = _find(connection, owner=job.owner, key=job.idempotency_key)
    assert older is not None
    return older


def _find(connection: Connection, *, owner: str, key: str) -> Job | None:
    return _one(connection, FIND, {"of_owner": owner, "key": key_text(key)})


def _get(connection: Connection, *, job_id: str) -> Job | None:
    return _one(connection, GET, {"of_job": job_id})


def _one(connection: Connection, statement: Select[Any], values: dict[str, Any]) -> Job | None:
    row = connection.execute(statement, values).one_or_none()
    return None if row is None else _whole(connection, row)


def _whole(connection: Connection, row: Any) -> Job | None:
    """The job of a row, with what other tables have of it; None where it was forgotten meanwhile."""
    inputs: dict[str, bytes] = {}
    made: list[Artifact] = []
    if has_inputs(row):
        inputs = {name: bytes(data) for name, data in connection.execute(INPUTS, {"of_job": row.id})}
        # Its end, which takes its inputs with it, may have come between: then this is how it ended.
        row = connection.execute(GET, {"of_job": row.id}).one_or_none()
        if row is None:
            return None
    if row.state == JobState.SUCCEEDED:
        made = [artifact_of(entry) for entry in connection.execute(ARTIFACTS, {"of_job": row.id})]
    return job_of(row, inputs, made)


@dataclass(frozen=True, slots=True)
class _Change:
    """A job as a transition leaves it, the rows of what is to be told, whether it ends and may have more rows, and if it ends,
    the row of what it used."""

    job: Job
    calls: list[dict[str, Any]]
    more: bool
    used: dict[str, Any] | None


def _moves(connection: Connection, changes: Sequence[_Change], *, state: JobState) -> list[Job | Exception]:
    """The same transition of several jobs: each one's record, or why it is as it was."""
    whole = state in TERMINAL and connection.dialect.name == "postgresql"  # where a statement more is a wait more
    moves = [move_values(change.job) for change in changes]
    done = end_all(connection, state, moves, *_belonging(changes)) if whole else move_all(connection, state, moves)
    outcomes: list[Job | Exception] = [change.job for change in changes]
    if done != len(changes):
        outcomes = [_recorded(connection, change.job) for change in changes]
    went = [change for change, outcome in zip(changes, outcomes, strict=True) if isinstance(outcome, Job)]
    if not whole:
        for table, rows in zip((artifacts, usage), _belonging(went), strict=True):
            if rows:
                add_new(connection, table, rows)
    add_calls(connection, [row for change in went for row in change.calls])
    ended = [change.job.id for change in went if change.more]
    if ended:
        for statement in ENDED:
            connection.execute(statement, {"of_jobs": ended})
    return outcomes


def _belonging(changes: Sequence[_Change]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of `artifacts` and of `usage`; an end that is recorded once more adds nothing."""
    made = [artifact_row(change.job.id, artifact) for change in changes for artifact in change.job.artifacts]
    return made, [change.used for change in changes if change.used is not None]


_MOVES: dict[JobState, Several[_Change, Job]] = {
    state: Several(1 + (state in TERMINAL), partial(_moves, state=state)) for state in JobState
}
"""A job that began and ended meanwhile begins first."""


def _keep_latents(connection: Connection, *, job_id: str, fence: int, rows: Sequence[dict[str, Any]]) -> None:
    held = select(jobs.c.id).where(jobs.c.id == job_id, jobs.c.fence == fence, IS_LIVE)
    if connection.execute(held).one_or_none() is not None:
        connection.execute(DROP_LATENTS, {"of_job": job_id})
        if rows:
            connection.execute(ADD_LATENTS, list(rows))


def _latents(connection: Connection, *, job_id: str) -> tuple[SavedImage, ...]:
    found = connection.execute(LATENTS, {"of_job": job_id})
    return tuple(SavedImage(index, step, bytes(data)) for index, step, data in found)


def _recorded(connection: Connection, job: Job) -> Job | Exception:
    """The job, if its record is as it is: now, or before, by a commit whose answer was lost. Else why it is not."""
    kept = _get(connection, job_id=job.id)
    if kept is None or kept.fence != job.fence:
        return LeaseLost(job.id, job.fence)
    return job if is_recorded(kept, job) else IllegalTransition(job.id, kept.state, job.state)


def _queue_anew(connection: Connection, *, which: ColumnElement[bool], values: dict[str, Any]) -> list[Job]:
    """Live jobs back to the queue, by the way that the table of transitions has."""
    begun = update(jobs).where(which, jobs.c.state.in_(BEGUN)).values(state=JobState.RETRYING.value)
    _run(connection, begun)
    anew = {"state": JobState.QUEUED.value, "started_at": None, **values}
    statement = update(jobs).where(which, IS_LIVE).values(anew).returning(jobs)
    taken = [_whole(connection, row) for row in connection.execute(statement).all()]
    return sorted(filter(None, taken), key=lambda job: job.created_at)


def _oldest(connection: Connection, *, beyond: int, ended_before: float, more_bytes_than: int, most: int) -> list[Job]:
    ended = connection.execute(select(func.count()).select_from(jobs).where(IS_ENDED)).scalar_one()
    size = connection.execute(select(func.coalesce(func.sum(artifacts.c.size), 0))).scalar_one()
    first = select(jobs).where(IS_ENDED).order_by(jobs.c.completed_at, jobs.c.id).limit(most)
    found: list[Job] = []
    for row in connection.execute(first).all():
        if ended - len(found) <= beyond and row.completed_at >= ended_before and size <= more_bytes_than:
            break
        job = _whole(connection, row)
        assert job is not None  # one that has ended brought nothing along any more
        found.append(job)
        size -= sum(artifact.size for artifact in job.artifacts)
    return found


def _withdraw(connection: Connection, *, job_id: str) -> None:
    _delete(connection, jobs.c.id == job_id)
    _run(connection, delete(outbox).where(outbox.c.job_id == job_id))


def _delete(connection: Connection, which: ColumnElement[bool]) -> None:
    _run(connection, delete(jobs).where(which))


def _run(connection: Connection, statement: Any) -> None:
    connection.execute(statement)
