"""Accounts over a file of records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL
from twisted.internet.task import Clock

from server.database.accounts import SqlAccounts
from server.database.engines import reading_engine, writing_engine
from server.database.reading import Reader
from server.database.writing import GroupWriter
from server.pools import InlinePool
from tests.server.accounts.rooms import Rooms


@pytest.fixture
def records(sqlite_url: URL) -> Iterator[SqlAccounts]:
    """Nobody is in them."""
    writing, reading = writing_engine(sqlite_url, 5.0), reading_engine(sqlite_url, 5.0, 1)
    yield SqlAccounts(GroupWriter(writing, InlinePool()), Reader(reading, InlinePool()))
    writing.dispose()
    reading.dispose()


@pytest.fixture
def rooms(records: SqlAccounts) -> Rooms:
    """At a time that the test turns on."""
    clock: Any = Clock()
    clock.advance(1_700_000_000.0)
    return Rooms(records, clock)
