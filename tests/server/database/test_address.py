"""DATABASE_URL, in the forms that are in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.database.address import BadAddress, address

SECRET = "p%40ss-that-must-not-show"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("", "sqlite:////srv/data/atelier.db"),
        ("sqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
        ("sqlite+aiosqlite:////var/lib/x.db", "sqlite:////var/lib/x.db"),
        ("postgresql://u:p@host:5432/db", "postgresql+psycopg://u:p@host:5432/db"),
        ("postgres://u:p@host/db", "postgresql+psycopg://u:p@host/db"),
        ("postgresql+psycopg2://u:p@host/db", "postgresql+psycopg://u:p@host/db"),
        ("postgresql+asyncpg://u:p@host/db?ssl=require", "postgresql+psycopg://u:p@host/db?sslmode=require"),
        ("postgresql:///db?host=/run/postgresql", "postgresql+psycopg:///db?host=%2Frun%2Fpostgresql"),
    ],
)
def test_an_address_is_taken_as_it_stands(given: str, wanted: str) -> None:
    """With our driver in place of another program's."""
    assert address(given, Path("/srv/data")).render_as_string(hide_password=False) == wanted


def test_a_relative_file_is_in_the_working_folder() -> None:
    """As SQLAlchemy has it, and other programs with it."""
    assert address("sqlite:///./app.db", Path("/srv")).database == str(Path("app.db").absolute())


@pytest.mark.parametrize(
    "given", ["mysql://u:{}@host/db", "{}", "sqlite://", "sqlite:///:memory:", "redis://:{}@h", "://{}", "postgres//{}"]
)
def test_what_is_no_database_of_ours_is_refused_without_its_password(given: str) -> None:
    """And what would be taken is said."""
    with pytest.raises(BadAddress, match="sqlite:///") as caught:
        address(given.format(SECRET), Path("/srv"))
    assert "must-not-show" not in str(caught.value)
