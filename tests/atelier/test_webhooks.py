"""`atelier webhooks` as a person uses it, on records that a server may have open."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from atelier.webhooks import dismiss, retry, show
from server.database.address import address
from server.webhook import CallState, Care, Channel, HookKind, OutboxCall, Settlement
from server.webhooks.calls import HttpCall
from tests.atelier.command import run
from tests.conftest import LOOP
from tests.server.database.opened import Opened, opened


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """A server's records, open beside the command, with a call that is unknown, one that was given up and one that waits."""
    for name in ("ATELIER_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATELIER_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with opened(address("", tmp_path)) as records:
        LOOP.run_until_complete(_fill(records))
        yield records


async def _fill(records: Opened) -> None:
    for number, state in ((1, CallState.UNKNOWN), (2, CallState.DEAD), (3, None)):
        url = f"https://hooks.test/x?key=hush{number}"
        call = OutboxCall(
            id=f"call-{number}",
            job_id=f"job-{number}",
            name="end",
            channel=Channel.WEBHOOK,
            payload=HttpCall(HookKind.GENERIC, "POST", url, {"generation_id": number}).to_json(),
            position=1,
            target="https://hooks.test:443" if number > 1 else "",
            care=Care.ONCE,
        )
        await records.outbox.add([call], at=1_700_000_000.0 + number, durable=True)
        if state is not None:
            [one] = await records.outbox.claim(at=1_700_000_010.0, until=2e9, most=1, room={}, others=9)
            await records.outbox.settle(Settlement(one, state, "500 [oh]"), at=1_700_000_011.0)


def listed(capsys: pytest.CaptureFixture[str], **which: Any) -> list[dict[str, Any]]:
    """What `list --json` prints."""
    assert show(**{"unknown": False, "failed": False, "most": 100, "as_json": True, **which}) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["webhooks"]
    return found


def test_calls_are_listed_with_what_they_say(kept: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is not over, or one kind of it; what stands behind an address's question mark is nobody's business."""
    calls = listed(capsys)
    assert [call["state"] for call in calls] == ["unknown", "dead", "waiting"]
    assert (calls[0]["to"], calls[0]["url"], calls[0]["body"]) == (
        "backend",
        "https://hooks.test/x",
        {"generation_id": 1},
    )
    assert (calls[1]["since"], calls[1]["next"], calls[2]["next"]) == (
        "2023-11-14T22:13:22Z", None, "2023-11-14T22:13:23Z",
    )  # fmt: skip
    assert [call["id"] for call in listed(capsys, unknown=True)] == ["call-1"]
    assert [call["id"] for call in listed(capsys, failed=True)] == ["call-2"]
    assert [call["id"] for call in listed(capsys, most=1)] == ["call-1"]


def test_a_table_is_for_people(
    kept: Opened, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ids, where they go and what was answered last."""
    monkeypatch.setenv("COLUMNS", "200")
    assert show(unknown=False, failed=False, most=100, as_json=False) == 0
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("call-1", "backend", "https://hooks.test:443", "500 [oh]"))
    assert "hush" not in shown


def test_retried_and_dismissed_calls_leave_the_list(kept: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """By their ids, or all of a kind; their ids are on stdout."""
    assert retry(["call-1"], unknown=False, failed=False) == 0
    assert capsys.readouterr().out == "call-1\n"
    assert dismiss([], unknown=True, failed=True) == 0
    assert capsys.readouterr().out == "call-2\n"
    assert [call["state"] for call in listed(capsys)] == ["waiting", "waiting"]
    assert show(unknown=True, failed=True, most=100, as_json=False) == 0
    assert capsys.readouterr().err == "none\n"


def test_a_call_that_is_not_there_is_named(kept: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """What is there is done all the same; the status tells."""
    assert retry(["call-2", "call-9"], unknown=False, failed=False) == 1
    told = capsys.readouterr()
    assert told.out == "call-2\n"
    assert "call-9" in told.err


def test_nothing_is_done_unasked(kept: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """No ids, and none of the options that stand for all."""
    assert retry([], unknown=False, failed=False) == 2
    assert "--all-unknown" in capsys.readouterr().err


def test_records_of_another_version_are_left_alone(kept: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """The server brings them up to date, not a command beside it."""
    with kept.writing.connect() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '0001'")
        connection.commit()
    assert retry(["call-1"], unknown=False, failed=False) == 1
    assert "0001" in capsys.readouterr().err


def test_a_file_that_is_no_database_is_told_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And so is an address that is none."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ATELIER_DATABASE_URL", "sqlite:///broken.db")
    (tmp_path / "broken.db").write_bytes(b"no database at all" * 100)
    assert show(unknown=False, failed=False, most=1, as_json=True) == 1
    assert "cannot be used" in capsys.readouterr().err
    monkeypatch.setenv("ATELIER_DATABASE_URL", "mysql://me:hush@db/x")
    assert show(unknown=False, failed=False, most=1, as_json=True) == 2
    assert "hush" not in capsys.readouterr().err


async def test_from_the_command_line(tmp_path: Path) -> None:
    """Where there are no records, none are made."""
    for arguments in (["list", "--json"], ["retry", "--all-unknown"], ["dismiss", "x"]):
        ended = await run("webhooks", *arguments, ATELIER_DATA_DIR=str(tmp_path))
        assert (ended.status, ended.out) == (1, "")
        assert "there are no records" in ended.err
    assert os.listdir(tmp_path) == []
