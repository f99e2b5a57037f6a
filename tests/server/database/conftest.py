"""Databases with Atelier's tables and nothing in them: one of each kind, made once and emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import URL

from server.database.address import address
from tests.postgres import PostgresServer
from tests.server.database.opened import Opened, opened


@pytest.fixture(scope="session")
def postgres_url(postgres: PostgresServer) -> URL:
    """A database of the server, for these tests alone."""
    postgres.sql("CREATE DATABASE contract")
    url = address(postgres.url("contract"), Path())
    with opened(url):
        return url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> URL:
    """Each kind of database in turn, empty."""
    if request.param == "sqlite":
        given: URL = request.getfixturevalue("sqlite_url")
        return given
    given = request.getfixturevalue("postgres_url")
    request.getfixturevalue("postgres").sql(
        "DELETE FROM jobs; DELETE FROM outbox; DELETE FROM users; DELETE FROM audit; DELETE FROM usage; DELETE FROM quotas",
        "contract",
    )
    return given


@pytest.fixture
def database(url: URL) -> Iterator[Opened]:
    """A node on it."""
    with opened(url) as there:
        yield there
