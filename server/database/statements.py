"""The statements of every job's way, built once: to build one takes SQLAlchemy as long as to run it.

What is done to several rows is one statement with one parameter on PostgreSQL: the rows as JSON. psycopg would else send, and
wait, once a row, and with each wait give the interpreter away to whoever computes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from pydantic_core import to_json
from sqlalchemy import (
    BigInteger,
    BindParameter,
    ClauseElement,
    ColumnElement,
    Connection,
    Dialect,
    Double,
    Integer,
    Table,
    Text,
    bindparam,
    case,
    cast,
    column,
    delete,
    func,
    insert,
    null,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.dialects.sqlite import pysqlite
from sqlalchemy.types import TypeEngine

from server.database.schema import artifacts, job_inputs, jobs, latents, one_of
from server.job import BEGUN, TERMINAL, TRANSITIONS, JobState

_JOB: BindParameter[str] = bindparam("of_job")
_KEY = ("owner", "idempotency_key")


def add_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add rows that have nothing in common with one that is there, as it must be unique; says how many."""
    return _run(connection, _insert(connection.dialect.name, table, tuple(rows[0]), ()), rows)


def add_jobs(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add the jobs whose owner's key is new; says how many."""
    return _run(connection, _insert(connection.dialect.name, jobs, tuple(rows[0]), _KEY), rows)


def move_all(connection: Connection, state: JobState, moves: Sequence[Mapping[str, Any]]) -> int:
    """The same transition of several jobs, by `rows.move_values`; says of how many."""
    return _run(connection, move_sql(connection.dialect.name, state), moves)


def _run(connection: Connection, sql: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """By the driver's own words: SQLAlchemy takes longer to look a statement and its parameters through than SQLite to do it."""
    if connection.dialect.name == "sqlite":
        return connection.exec_driver_sql(sql, [dict(row) for row in rows]).rowcount
    return connection.exec_driver_sql(sql, {"rows": to_json(list(rows)).decode()}).rowcount


_STYLES = {"sqlite": "named", "postgresql": "pyformat"}
_KINDS: Mapping[str, Any] = {"sqlite": pysqlite.dialect, "postgresql": psycopg.dialect}
_DIALECTS: Mapping[str, Dialect] = {name: kind(paramstyle=_STYLES[name]) for name, kind in _KINDS.items()}
"""By name; SQLite's parameters go by name too, so that each row is given as it is."""


def _sql(dialect: str, statement: ClauseElement) -> str:
    return str(statement.compile(dialect=_DIALECTS[dialect]))


def _given(dialect: str, types: Mapping[str, TypeEngine[Any]]) -> Any:
    """Columns of a row that is a parameter: on PostgreSQL of rows that are one together."""
    if dialect == "sqlite":
        return {name: bindparam(name, type_=kind) for name, kind in types.items()}
    rows = func.json_to_recordset(cast(bindparam("rows", type_=Text), postgresql.JSON))
    columns = [column(name, kind) for name, kind in types.items()]
    return rows.table_valued(*columns).render_derived(name="given", with_types=True).c


@lru_cache
def _insert(dialect: str, table: Table, names: tuple[str, ...], unique: tuple[str, ...]) -> str:
    given = _given(dialect, {name: table.c[name].type for name in names})
    index = unique or None
    if dialect == "sqlite":
        return _sql(dialect, sqlite.insert(table).values(given).on_conflict_do_nothing(index_elements=index))
    added = postgresql.insert(table).from_select(names, select(*(given[name] for name in names)))
    return _sql(dialect, added.on_conflict_do_nothing(index_elements=index))


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


_MOVED: dict[str, tuple[str, TypeEngine[Any]]] = {
    "last_event": ("to_event", BigInteger()),
    "attempts": ("to_attempts", Integer()),
    "retries": ("to_retries", Integer()),
    "started_at": ("to_started", Double()),
    "completed_at": ("to_completed", Double()),
    "warnings": ("to_warnings", Text()),
    "failure": ("to_failure", Text()),
    "output": ("to_output", Text()),
    "figures": ("to_figures", Text()),
}
"""What a transition changes beside the state: a column, its name and type in `rows.move_values`."""


_MOVE_TYPES: dict[str, TypeEngine[Any]] = {"of_job": Text(), "held": Integer(), **dict(_MOVED.values())}


@lru_cache
def move_sql(dialect: str, state: JobState) -> str:
    """To a state, from those that may be left for it, by whoever holds the job."""
    given = _given(dialect, _MOVE_TYPES)
    leaving = [old for old, new in TRANSITIONS.items() if state in new]
    values: dict[str, Any] = {
        "state": text(one_of([state])),
        **{column: given[name] for column, (name, _) in _MOVED.items()},
    }
    if state in TERMINAL:
        values["signature"] = null()
    held = update(jobs).where(jobs.c.id == given["of_job"], jobs.c.fence == given["held"], _in(leaving))
    return _sql(dialect, held.values(values))
