"""The statements of every job's way, built once: to build one takes SQLAlchemy as long as to run it."""

from __future__ import annotations

from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Update, bindparam, case, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from server.database.schema import artifacts, job_inputs, jobs, latents
from server.job import TERMINAL, TRANSITIONS, JobState

BEGUN = (JobState.STARTING, JobState.PROCESSING)

_JOB: BindParameter[str] = bindparam("of_job")

ADMIT = {
    "sqlite": sqlite.insert(jobs)
    .on_conflict_do_nothing(index_elements=["owner", "idempotency_key"])
    .returning(jobs.c.id),
    "postgresql": postgresql.insert(jobs)
    .on_conflict_do_nothing(index_elements=["owner", "idempotency_key"])
    .returning(jobs.c.id),
}
"""By the dialect's name. A row comes back where the owner's key is new."""

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
ADD_ARTIFACTS = insert(artifacts)
ADD_LATENTS = insert(latents)
DROP_INPUTS = delete(job_inputs).where(job_inputs.c.job_id == _JOB)
DROP_LATENTS = delete(latents).where(latents.c.job_id == _JOB)


def attempts_but_this() -> ColumnElement[int]:
    """How often work was begun, when what is under way does not count."""
    return case((jobs.c.state.in_(BEGUN), jobs.c.attempts - 1), else_=jobs.c.attempts)


def _move(state: JobState) -> Update:
    """To a state, from those that may be left for it, by whoever holds the job; gives the row. `at` is read where it matters."""
    leaving = [old for old, new in TRANSITIONS.items() if state in new]
    values: dict[str, Any] = {
        "state": state.value,
        "last_event": bindparam("to_event"),
        "warnings": bindparam("to_warnings"),
        "failure": bindparam("to_failure"),
    }
    if state is JobState.STARTING:
        values |= {"started_at": bindparam("at"), "attempts": jobs.c.attempts + 1}
    if state is JobState.RETRYING:
        values |= {"retries": jobs.c.retries + 1, "attempts": attempts_but_this()}
    if state in TERMINAL:
        values |= {"completed_at": bindparam("at"), "signature": None}
    held = update(jobs).where(jobs.c.id == _JOB, jobs.c.fence == bindparam("held"), jobs.c.state.in_(leaving))
    return held.values(values).returning(jobs)


MOVES = {state: _move(state) for state in JobState}
