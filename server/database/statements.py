"""The statements of every job's way, built once: to build one takes SQLAlchemy as long as to run it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Table,
    Update,
    bindparam,
    case,
    delete,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from server.database.schema import artifacts, job_inputs, jobs, latents, one_of
from server.job import BEGUN, TERMINAL, TRANSITIONS, JobState

_JOB: BindParameter[str] = bindparam("of_job")


def _where_new(table: Table) -> dict[str, Any]:
    """By the dialect's name: rows are added that have nothing in common with one that is there, as it must be unique."""
    return {
        "sqlite": sqlite.insert(table).on_conflict_do_nothing(),
        "postgresql": postgresql.insert(table).on_conflict_do_nothing(),
    }


ADMIT = {
    "sqlite": sqlite.insert(jobs).on_conflict_do_nothing(index_elements=["owner", "idempotency_key"]),
    "postgresql": postgresql.insert(jobs).on_conflict_do_nothing(index_elements=["owner", "idempotency_key"]),
}
"""By the dialect's name. A row is added where the owner's key is new."""

GET = select(jobs).where(jobs.c.id == _JOB)
FIND = select(jobs).where(jobs.c.owner == bindparam("of_owner"), jobs.c.idempotency_key == bindparam("key"))
INPUTS = select(job_inputs.c.name, job_inputs.c.data).where(job_inputs.c.job_id == _JOB)
ARTIFACTS = select(artifacts).where(artifacts.c.job_id == _JOB).order_by(artifacts.c.image_index)
LATENTS = (
    select(latents.c.image_index, latents.c.step, latents.c.data)
    .where(latents.c.job_id == _JOB)
    .order_by(latents.c.image_index)
)
ADD_INPUTS = insert(job_inputs)
ADD_ARTIFACTS = _where_new(artifacts)
ADD_LATENTS = insert(latents)
DROP_LATENTS = delete(latents).where(latents.c.job_id == _JOB)
ENDED = [
    delete(table).where(table.c.job_id.in_(bindparam("of_jobs", expanding=True))) for table in (job_inputs, latents)
]
"""What goes when jobs end."""


def _in(states: Collection[JobState]) -> Any:
    """Written out: SQLAlchemy would else count the states each time."""
    return text(f"jobs.state IN ({one_of(states)})")


def attempts_but_this() -> ColumnElement[int]:
    """How often work was begun, when what is under way does not count."""
    return case((_in(BEGUN), jobs.c.attempts - 1), else_=jobs.c.attempts)


def _move(state: JobState) -> Update:
    """To a state, from those that may be left for it, by whoever holds the job."""
    leaving = [old for old, new in TRANSITIONS.items() if state in new]
    values: dict[str, Any] = {
        "state": state.value,
        "last_event": bindparam("to_event"),
        "attempts": bindparam("to_attempts"),
        "retries": bindparam("to_retries"),
        "started_at": bindparam("to_started"),
        "completed_at": bindparam("to_completed"),
        "warnings": bindparam("to_warnings"),
        "failure": bindparam("to_failure"),
        "output": bindparam("to_output"),
        "figures": bindparam("to_figures"),
    }
    if state in TERMINAL:
        values["signature"] = None
    held = update(jobs).where(jobs.c.id == _JOB, jobs.c.fence == bindparam("held"), _in(leaving))
    return held.values(values)


MOVES = {state: _move(state) for state in JobState}
