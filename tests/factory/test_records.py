"""The records at start: whatever keeps them from being used stops the start with the setting's name."""

from __future__ import annotations

import resource
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from config import Settings, SettingsError, load_settings
from factory.records import Records
from tests.conftest import start_reactor
from tests.postgres import PASSWORD, PostgresServer
from tests.server.database.contract import a_job


async def opened(reactor: Any, settings: Settings) -> Records:
    """Records that are open."""
    records = Records(settings, reactor)
    await records.open()
    return records


def names(folder: Path) -> set[str]:
    """What is in a folder."""
    return {path.name for path in folder.iterdir()}


def running() -> set[threading.Thread]:
    """The records' threads."""
    return {thread for thread in threading.enumerate() if "records" in thread.name}


async def refusal(reactor: Any, settings: Settings) -> str:
    """Why they do not open; afterwards no thread of theirs runs."""
    before = running()
    with pytest.raises(SettingsError) as caught:
        await opened(reactor, settings)
    assert running() <= before
    return str(caught.value)


async def test_what_was_kept_is_there_after_a_restart(reactor: Any, tmp_path: Path) -> None:
    """In a file of the data folder, which is made where it is not there."""
    settings = load_settings(data_dir=tmp_path / "new" / "data")
    records = await opened(reactor, settings)
    job = await records.store.admit(a_job())
    assert await records.close()
    again = await opened(reactor, settings)
    assert await again.store.get(job.id) == job
    assert await again.close()
    assert names(tmp_path / "new" / "data") == {"atelier.db", "node"}


async def test_a_second_server_on_the_same_folder_is_refused(reactor: Any, tmp_path: Path) -> None:
    """Before it touches a record."""
    settings = load_settings(data_dir=tmp_path)
    records = await opened(reactor, settings)
    assert "ATELIER_DATA_DIR" in await refusal(reactor, settings)
    await records.close()


async def test_a_folder_that_cannot_be_made_is_named(reactor: Any, tmp_path: Path) -> None:
    """With the operating system's reason."""
    (tmp_path / "file").write_text("")
    text = await refusal(reactor, load_settings(data_dir=tmp_path / "file" / "data"))
    assert text.startswith("ATELIER_DATA_DIR: ")
    assert "Not a directory" in text


async def test_a_file_that_is_no_database_is_left_alone(reactor: Any, tmp_path: Path) -> None:
    """It may be someone's, and is named."""
    path = tmp_path / "atelier.db"
    path.write_bytes(b"my thesis, " * 1000)
    text = await refusal(reactor, load_settings(data_dir=tmp_path))
    assert text.startswith("ATELIER_DATA_DIR: ")
    assert "atelier.db" in text
    assert "not a database" in text
    assert path.read_bytes() == b"my thesis, " * 1000


async def test_a_damaged_file_is_found_at_start(reactor: Any, tmp_path: Path) -> None:
    """Not when a job needs what was lost."""
    settings = load_settings(data_dir=tmp_path)
    records = await opened(reactor, settings)
    for number in range(50):
        await records.store.admit(a_job(f"job-{number}"))
    await records.close()
    path = tmp_path / "atelier.db"
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    text = await refusal(reactor, settings)
    assert text.startswith("ATELIER_DATA_DIR: ")
    assert "damaged" in text or "malformed" in text


async def test_a_disk_without_room_is_found_at_start(reactor: Any, tmp_path: Path) -> None:
    """Here: files may not grow beyond 4 KiB."""
    start_reactor()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        text = await refusal(reactor, load_settings(data_dir=tmp_path))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert text.startswith("ATELIER_DATA_DIR: ")


async def test_a_file_that_may_only_be_read_is_found_at_start(reactor: Any, tmp_path: Path) -> None:
    """Here: a folder stands in its place."""
    (tmp_path / "atelier.db").mkdir()
    text = await refusal(reactor, load_settings(data_dir=tmp_path))
    assert text.startswith("ATELIER_DATA_DIR: ")
    assert "unable to open" in text


async def test_another_program_s_lock_is_waited_for_and_then_told(reactor: Any, tmp_path: Path) -> None:
    """As long as ATELIER_DATABASE_TIMEOUT says."""
    url = f"sqlite:///{tmp_path}/mine.db"
    other = sqlite3.connect(tmp_path / "mine.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    text = await refusal(reactor, load_settings(data_dir=tmp_path, database_url=url, database_timeout=0.1))
    assert text.startswith("ATELIER_DATABASE_URL: ")
    assert "locked" in text
    other.close()


@pytest.mark.parametrize("url", ["mysql://u:{}@host/db", "{}"])
def test_an_address_that_is_none_stops_the_start(reactor: Any, tmp_path: Path, url: str) -> None:
    """Before anything is opened, and without the password."""
    with pytest.raises(SettingsError, match="ATELIER_DATABASE_URL") as caught:
        Records(load_settings(data_dir=tmp_path, database_url=url.format(PASSWORD)), reactor)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("wrong", ["port", "password", "database"])
async def test_a_postgresql_that_cannot_be_used_stops_the_start(
    reactor: Any, tmp_path: Path, postgres: PostgresServer, wrong: str
) -> None:
    """With its own reason, its address, and not its password."""
    url = {
        "port": postgres.url().replace(f":{postgres.port}/", ":1/"),
        "password": postgres.url().replace(PASSWORD, "another-password-to-keep"),
        "database": postgres.url("nowhere"),
    }[wrong]
    text = await refusal(reactor, load_settings(data_dir=tmp_path, database_url=url))
    assert text.startswith("ATELIER_DATABASE_URL: ")
    assert "127.0.0.1" in text
    assert PASSWORD not in text
    assert "another-password-to-keep" not in text


async def test_postgresql_keeps_records_too(reactor: Any, tmp_path: Path, postgres: PostgresServer) -> None:
    """By the address as an operator writes it."""
    postgres.sql("CREATE DATABASE records")
    settings = load_settings(data_dir=tmp_path, database_url=postgres.url("records"))
    records = await opened(reactor, settings)
    job = await records.store.admit(a_job())
    assert await records.store.get(job.id) == job
    assert await records.close()
    assert names(tmp_path) == {"node"}
