"""The bots take the database and the storage from a real server, from outside, while they ask it for pictures."""

from __future__ import annotations

import os
import shlex
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests import s3
from tests.bot.asked import finding, options, plain, run
from tests.bot.conftest import Quick, end, start_quick
from tests.bot.test_kinds import ALL_SORTS
from tests.postgres import PostgresServer

DATABASE = "bots"


@pytest.fixture
def database() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test's own, with an empty database; one that the bots have started is ended too."""
    server = PostgresServer()
    server.start()
    server.sql(f"CREATE DATABASE {DATABASE}")
    _bury_when_dead(server.pid)
    yield server
    _end_all_of(server.folder)
    server.remove()


@pytest.fixture
def storage() -> Iterator[s3.S3Server]:
    """A bucket of this test's own."""
    server = s3.S3Server(s3.rclone)
    server.start()
    _bury_when_dead(server.pid)
    yield server
    _end_all_of(server.folder)
    server.remove()


@pytest.fixture
def server(database: PostgresServer, storage: s3.S3Server, tmp_path: Path) -> Iterator[Quick]:
    """A node whose records and pictures are with them."""
    process, quick = start_quick(tmp_path, DATABASE_URL=database.url(DATABASE), **storage.settings())
    yield quick
    end(process)


async def test_database_and_storage_are_killed(
    reactor: Any, database: PostgresServer, storage: s3.S3Server, server: Quick, tmp_path: Path
) -> None:
    """Each dies in the middle of work and comes back a second later; every job has its one end, every picture is right."""
    asked = options(
        "failover", server.address, tmp_path / "out", plain(ALL_SORTS), rate=8.0, seconds=8.0, drain=60.0, again=False,
        pids={"server": server.pid, "database": database.pid, "storage": storage.pid},
        restarts={"database": _as_its_user(database.command), "storage": shlex.join(storage.command)},
        faults=["kill database at 2 for 1", "kill storage at 5 for 1"],
    )  # fmt: skip
    status, record = await run(reactor, asked)
    assert status == 0, (record["verdict"], (tmp_path / "server.log").read_text())
    for part in ("database", "storage"):
        assert finding(record, f"a picture after kill of {part}")["passed"]
    (open_jobs,) = database.rows(
        "SELECT count(*) FROM jobs WHERE state NOT IN ('succeeded', 'failed', 'canceled')", DATABASE
    )
    assert open_jobs == (0,)


async def test_database_and_storage_are_paused(
    reactor: Any, database: PostgresServer, storage: s3.S3Server, server: Quick, tmp_path: Path
) -> None:
    """They keep their connections and answer nothing, every process of theirs: who waits has his picture afterwards."""
    asked = options(
        "failover", server.address, tmp_path / "out", plain(ALL_SORTS), rate=8.0, seconds=6.0, drain=60.0, again=False,
        pids={"database": database.pid, "storage": storage.pid},
        faults=["pause database at 1 for 1", "pause storage at 3 for 1"],
    )  # fmt: skip
    status, record = await run(reactor, asked)
    assert status == 0, (record["verdict"], (tmp_path / "server.log").read_text())
    for part in ("database", "storage"):
        assert finding(record, f"a picture after pause of {part}")["passed"]


def _as_its_user(command: list[str]) -> str:
    """PostgreSQL refuses to run as root."""
    if os.getuid() == 0:
        command = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
    return shlex.join(command)


def _bury_when_dead(pid: int) -> None:
    """As init does with an operator's: PostgreSQL takes the id of a dead child that nobody has waited for as one that runs."""
    threading.Thread(target=psutil.Process(pid).wait, daemon=True).start()


def _end_all_of(folder: Path) -> None:
    """Processes whose command names the folder, at once and with their children, as `PostgresServer.stop` does."""
    for process in psutil.Process().children():
        if any(str(folder) in word for word in process.cmdline()):
            process.send_signal(signal.SIGQUIT)
            process.wait()
