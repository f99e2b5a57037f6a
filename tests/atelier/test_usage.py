"""`atelier usage` and `atelier quota` as an operator uses them, on records that a server may have open."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from atelier.usage import quota, show
from server.database.address import address
from server.job import JobState
from tests.conftest import LOOP
from tests.server.database.contract import brought_to
from tests.server.database.opened import Opened, opened
from tests.server.database.test_usage import MORNING, a_job


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Opened]:
    """A server's records, with a job of Ada's and one of Bob's."""
    for name in ("ATELIER_DATABASE_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ATELIER_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with opened(address("", tmp_path)) as records:
        for owner in ("ada", "bob"):
            LOOP.run_until_complete(brought_to(records.store, JobState.SUCCEEDED, a_job(f"job-{owner}", owner=owner)))
        yield records


def test_usage_is_printed_for_people_and_programs(kept: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, JSON or CSV; of one owner or of all."""
    days = {"since": "2024-10-04", "until": "2024-10-04"}
    assert MORNING // 86_400 == 20_000
    assert show("", **days, sums=["owner"], as_json=True, as_csv=False) == 0
    found = json.loads(capsys.readouterr().out)["usage"]
    assert [(line["owner"], line["pictures"], line["cost"]) for line in found] == [("ada", 2, 4.0), ("bob", 2, 4.0)]
    assert show("bob", **days, sums=["day", "model"], as_json=False, as_csv=True) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["day"], row["model"], row["jobs"]) == ("2024-10-04", "demo", "1")
    assert show("ada", **days, sums=["owner"], as_json=False, as_csv=False) == 0
    assert "ada" in capsys.readouterr().out
    assert show("nobody", **days, sums=["day"], as_json=False, as_csv=False) == 0
    assert "none" in capsys.readouterr().err


def test_what_is_no_day_is_told(kept: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """With the option's name."""
    assert show("", "yesterday", "", ["day"], as_json=False, as_csv=False) == 1
    assert "--from must be a day such as 2026-11-21, not 'yesterday'" in capsys.readouterr().err


def test_an_owner_is_given_a_quota_and_loses_it_again(kept: Opened, capsys: pytest.CaptureFixture[str]) -> None:
    """Some, unlimited, and as the settings say."""
    assert quota("ada", 5, None, unlimited=False, default=False, as_json=False) == 0
    assert capsys.readouterr().out == "ada: pictures a day 5, cost a day unlimited\n"
    assert quota("bob", None, None, unlimited=True, default=False, as_json=False) == 0
    capsys.readouterr()
    assert quota("", None, None, unlimited=False, default=False, as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["quotas"] == [
        {"owner": "ada", "pictures": 5, "cost": None},
        {"owner": "bob", "pictures": None, "cost": None},
    ]
    assert quota("ada", None, None, unlimited=False, default=True, as_json=False) == 0
    assert "as the settings say" in capsys.readouterr().err
    assert quota("", 5, None, unlimited=False, default=False, as_json=False) == 2
    assert quota("ada", 5, None, unlimited=True, default=False, as_json=False) == 2
