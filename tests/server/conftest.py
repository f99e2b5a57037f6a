"""What the server logs during a test is kept from the terminal and looked through: a task that broke fails the test.

And a file with Atelier's tables and nothing in them, made once and copied for each test that wants one.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL
from structlog.testing import capture_logs

from server.database.address import address
from tests.server.database.opened import opened


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[Any]]:
    """Every line of the test."""
    with capture_logs() as lines:
        yield lines
    broken = [line for line in lines if line["event"] == "task.broken"]
    assert not broken, f"a task broke: {broken}"


@pytest.fixture(scope="session")
def _migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("migrated")
    url = address("", folder)
    with opened(url):
        pass
    assert url.database is not None
    return Path(url.database)


@pytest.fixture
def sqlite_url(_migrated_file: Path, tmp_path: Path) -> URL:
    """A file that is up to date."""
    shutil.copy(_migrated_file, tmp_path)
    return address("", tmp_path)
