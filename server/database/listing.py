"""A page of an owner's jobs, read by the index that has them in order, without the pictures that came with their requests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, func, not_, null, or_, select, tuple_

from server.database.rows import artifact_of, job_of, key_text
from server.database.schema import artifacts, jobs
from server.errors import Code
from server.events import Artifact
from server.job import Job, JobState
from server.listing import JobPage, JobPlace

_PLACE = tuple_(jobs.c.created_at, jobs.c.id)
_READ = [
    null().label("signature") if column.name == "signature" else column for column in jobs.c
]  # it may hold a picture
_FAILURE = func.coalesce(jobs.c.failure, "")
_OVERDUE = and_(
    jobs.c.deadline_seconds.is_not(None),
    _FAILURE.contains(f'"code":{Code.DEADLINE_EXCEEDED.value},'),  # a key: quotes within texts are escaped
)


def read_page(connection: Connection, *, owner: str, page: JobPage) -> tuple[list[Job], bool]:
    """The jobs, newest first, and whether there are more where the page ends."""
    rows = connection.execute(page_statement(owner, page)).all()
    more = len(rows) > page.most
    rows = rows[: page.most]
    if page.after is not None:
        rows = rows[::-1]
    made = _pictures(connection, [row.id for row in rows if row.state == JobState.SUCCEEDED])
    return [job_of(row, {}, made.get(row.id, ())) for row in rows], more


def page_statement(owner: str, page: JobPage) -> Select[Any]:
    """One row more than the page has; upwards from its place where it begins `after` one."""
    upwards = page.after is not None
    statement = select(*_READ).where(jobs.c.owner == owner)
    if page.states:
        statement = statement.where(jobs.c.state.in_([state.value for state in page.states]))
    if (
        page.keys
    ):  # found by their own index; SQLite would else read all of the owner's jobs for the sake of their order
        texts = [key_text(key) for key in sorted(page.keys)]
        held = select(jobs.c.id).where(jobs.c.owner == owner, jobs.c.idempotency_key.in_(texts))
        statement = statement.where(jobs.c.id.in_(held))
    if page.overdue is not None:
        statement = statement.where(_failed_so(page.overdue))
    if page.before is not None:
        statement = statement.where(_place(page.before) > _PLACE)
    if page.after is not None:
        statement = statement.where(_place(page.after) < _PLACE)
    order = [column.asc() if upwards else column.desc() for column in (jobs.c.created_at, jobs.c.id)]
    return statement.order_by(*order).offset(page.skip).limit(page.most + 1)


def _failed_so(overdue: bool) -> ColumnElement[bool]:
    return or_(jobs.c.state != JobState.FAILED.value, _OVERDUE if overdue else not_(_OVERDUE))


def _place(place: JobPlace) -> Any:
    return tuple_(place.created_at, place.job_id)


def _pictures(connection: Connection, job_ids: Sequence[str]) -> dict[str, list[Artifact]]:
    """Of all jobs of the page at once."""
    made: dict[str, list[Artifact]] = {}
    if job_ids:
        statement = select(artifacts).where(artifacts.c.job_id.in_(job_ids)).order_by(artifacts.c.image_index)
        for row in connection.execute(statement):
            made.setdefault(row.job_id, []).append(artifact_of(row))
    return made
