"""The statements of every job's way, built once: to build one takes SQLAlchemy as long as to run it.

What is done to several rows is one statement with one parameter on PostgreSQL: the rows as JSON. psycopg would else send, and
wait, once a row, and with each wait give the interpreter away to whoever computes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
    exists,
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
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import TypeEngine

from server.database.schema import artifacts, job_inputs, jobs, latents, one_of, quotas, usage
from server.job import BEGUN, TERMINAL, TRANSITIONS, JobState

_JOB: BindParameter[str] = bindparam("of_job")
_KEY = ("owner", "idempotency_key")


def add_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add rows that have nothing in common with one that is there, as it must be unique; says how many."""
    return _run(connection, _insert(connection.dialect.name, table, tuple(rows[0]), ()), rows)


def add_jobs(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """Add the jobs whose owner's key is new; says how many."""
    return _run(connection, _insert(connection.dialect.name, jobs, tuple(rows[0]), _KEY), rows)


def add_free_jobs(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> int:
    """The same of owners who have no quota of their own, so that mostly nobody has to be asked for his; says how many.

    SQLite looks once whether there is any, PostgreSQL at each row: there a question takes longer than its answer.
    """
    names = tuple(rows[0])
    if connection.dialect.name != "sqlite":
        return _run(connection, _insert("postgresql", jobs, names, _KEY, free=True), rows)
    return 0 if _any_quota(connection) else add_jobs(connection, rows)


def move_all(connection: Connection, state: JobState, moves: Sequence[Mapping[str, Any]]) -> int:
    """The same transition of several jobs, by `rows.move_values`; says of how many."""
    return _run(connection, move_sql(connection.dialect.name, state), moves)


def end_all(
    connection: Connection,
    state: JobState,
    moves: Sequence[Mapping[str, Any]],
    made: Sequence[Mapping[str, Any]],
    used: Sequence[Mapping[str, Any]],
) -> int:
    """On PostgreSQL: the same, and of those that it moved their artifacts and usage, in one statement."""
    sql = end_sql(state)
    given = {"rows": moves, "made": made, "used": used}
    with _driver(connection, sql) as cursor:
        cursor.execute(sql, {name: to_json(list(rows)).decode() for name, rows in given.items()})
        return int(cursor.fetchone()[0])


def _run(connection: Connection, sql: str, rows: Sequence[Mapping[str, Any]]) -> int:
    """By the driver itself: SQLAlchemy takes longer to look a statement and its parameters through than SQLite to do it."""
    with _driver(connection, sql) as cursor:
        if connection.dialect.name == "sqlite":
            cursor.executemany(sql, [dict(row) for row in rows])
        else:
            cursor.execute(sql, {"rows": to_json(list(rows)).decode()})
        return int(cursor.rowcount)


def _any_quota(connection: Connection) -> bool:
    sql = "SELECT 1 FROM quotas LIMIT 1"
    with _driver(connection, sql) as cursor:
        return cursor.execute(sql).fetchone() is not None


@contextmanager
def _driver(connection: Connection, sql: str) -> Iterator[Any]:
    """The driver's cursor, in a transaction. Raises DBAPIError as SQLAlchemy would."""
    if not connection.in_transaction():
        connection.begin()
    dialect, given = connection.dialect, connection.connection
    cursor = given.cursor()
    try:
        yield cursor
    except dialect.loaded_dbapi.Error as error:
        lost = dialect.is_disconnect(error, given, cursor)
        if lost:
            connection.invalidate(error)
        base = dialect.loaded_dbapi.Error
        raise DBAPIError.instance(
            sql, None, error, base, hide_parameters=True, connection_invalidated=lost, dialect=dialect
        ) from error
    finally:
        cursor.close()


_STYLES = {"sqlite": "named", "postgresql": "pyformat"}
_KINDS: Mapping[str, Any] = {"sqlite": pysqlite.dialect, "postgresql": psycopg.dialect}
_DIALECTS: Mapping[str, Dialect] = {name: kind(paramstyle=_STYLES[name]) for name, kind in _KINDS.items()}
"""By name; SQLite's parameters go by name too, so that each row is given as it is."""


def _sql(dialect: str, statement: ClauseElement) -> str:
    return str(statement.compile(dialect=_DIALECTS[dialect]))


def _given(dialect: str, types: Mapping[str, TypeEngine[Any]], name_of_all: str = "rows") -> Any:
    """Columns of a row that is a parameter: on PostgreSQL of rows that are one together."""
    if dialect == "sqlite":
        return {name: bindparam(name, type_=kind) for name, kind in types.items()}
    rows = func.json_to_recordset(cast(bindparam(name_of_all, type_=Text), postgresql.JSON))
    columns = [column(name, kind) for name, kind in types.items()]
    return rows.table_valued(*columns).render_derived(name="given", with_types=True).c


@lru_cache
def _insert(dialect: str, table: Table, names: tuple[str, ...], unique: tuple[str, ...], *, free: bool = False) -> str:
    """`free`: on PostgreSQL alone, leave out those whose owner has a quota."""
    given = _given(dialect, {name: table.c[name].type for name in names})
    index = unique or None
    if dialect == "sqlite":
        return _sql(dialect, sqlite.insert(table).values(given).on_conflict_do_nothing(index_elements=index))
    rows = select(*(given[name] for name in names))
    if free:
        rows = rows.where(~exists().where(quotas.c.owner == given["owner"]))
    added = postgresql.insert(table).from_select(names, rows)
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


@lru_cache
def end_sql(state: JobState) -> str:
    """To an end on PostgreSQL, with what belongs to it."""
    made, used = (_with_moved(table, name) for table, name in ((artifacts, "made"), (usage, "used")))
    moved = move_sql("postgresql", state)
    return f"WITH moved AS ({moved} RETURNING jobs.id), made AS ({made}), used AS ({used}) SELECT count(*) FROM moved"  # noqa: S608


def _with_moved(table: Table, name: str) -> str:
    given = _given("postgresql", {each.name: each.type for each in table.c}, name)
    rows = select(*(given[each.name] for each in table.c)).where(text("given.job_id IN (SELECT moved.id FROM moved)"))
    added = postgresql.insert(table).from_select([each.name for each in table.c], rows)
    return _sql("postgresql", added.on_conflict_do_nothing())
