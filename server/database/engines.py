"""Connections to the database: one for the writer, a few for readers, each set up for what it does."""

from __future__ import annotations

import sqlite3
import time
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError

LOCKED_PAUSE = 0.01  # seconds; a file becomes a WAL file once in its life, in less than that
CHECKED = "PRAGMA quick_check(1)"  # about 1 ms a megabyte of a file that is in memory


def writing_engine(url: URL, timeout: float) -> Engine:
    """Its transactions begin as the only writer (SQLite). At most one connection; `timeout` in seconds, for everything."""
    # Rows that a statement is given are few, and found by their keys; of how many there are PostgreSQL knows nothing, and would
    # rather read the whole table.
    engine = _engine(url, timeout, connections=1, options=" -c enable_hashjoin=off -c enable_mergejoin=off")
    if url.get_backend_name() == "sqlite":
        # A transaction that reads and then writes would fail at once where another wrote between, whatever the time-out.
        event.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    try:
        driver.execute("BEGIN IMMEDIATE")
    except sqlite3.Error as error:
        raise DBAPIError.instance("BEGIN IMMEDIATE", None, error, sqlite3.Error) from error


def reading_engine(url: URL, timeout: float, connections: int) -> Engine:
    """Each statement for itself."""
    return _engine(url, timeout, connections).execution_options(isolation_level="AUTOCOMMIT")


def wait_for_disk(connection: Connection, wait: bool) -> None:
    """Whether the next transaction's commit returns only when it is on the disk (or may be lost if the power fails).

    PostgreSQL always waits: it may crash without us, and would then have lost the way to an end that we still record.
    """
    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.execute(f"PRAGMA synchronous={'FULL' if wait else 'NORMAL'}")  # cannot be changed within a transaction


def _engine(url: URL, timeout: float, connections: int, options: str = "") -> Engine:
    if url.get_backend_name() == "sqlite":
        given: dict[str, Any] = {"timeout": timeout, "check_same_thread": False}  # a pool's threads take turns
    else:
        given = {
            "connect_timeout": max(2, round(timeout)),  # libpq takes no less
            "tcp_user_timeout": round(timeout * 1000),  # a server whose machine is gone does not answer, ever
            "application_name": "atelier",
            "options": f"-c synchronous_commit=on -c statement_timeout={round(timeout * 1000)} -c timezone=UTC{options}",
        }
    engine = create_engine(
        url, connect_args=given, pool_size=connections, max_overflow=0, pool_timeout=timeout, hide_parameters=True
    )
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", lambda connection, record: _set_up_sqlite(connection, timeout))
    return engine


def _set_up_sqlite(connection: Any, timeout: float) -> None:
    connection.isolation_level = None  # transactions begin and end where we say so
    end = time.monotonic() + timeout
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")  # readers see the last commit while the next is written
            break
        except (
            sqlite3.OperationalError
        ):  # another connection does the same to a new file: for that SQLite does not wait
            if time.monotonic() > end:
                raise
            time.sleep(LOCKED_PAUSE)
    connection.execute("PRAGMA foreign_keys=ON")
