"""Where the records are: DATABASE_URL in the forms that existing systems write, as SQLAlchemy wants it."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

FILE_NAME = "atelier.db"
_TAKEN = "postgresql://user:password@host:5432/name or sqlite:///path/to/file"


class BadAddress(ValueError):
    """Not an address of a database that the records can be in. The text shows no password."""


def address(url: str, data_dir: Path) -> URL:
    """`url` with our driver for it; a file in `data_dir` where it is empty.

    A driver that it names (postgresql+asyncpg, sqlite+aiosqlite) is another program's choice. Raises BadAddress.
    """
    if not url:
        return URL.create("sqlite", database=str(data_dir.absolute() / FILE_NAME))
    try:
        given = make_url(url)
    except (ArgumentError, ValueError):
        raise BadAddress(f"must be {_TAKEN}") from None
    kind = given.drivername.partition("+")[0]
    if kind in ("postgres", "postgresql"):
        return _postgresql(given)
    if kind == "sqlite":
        if given.host or not given.database or given.database == ":memory:":
            raise BadAddress("must name a file: sqlite:///relative/path or sqlite:////absolute/path")
        return URL.create("sqlite", database=str(Path(given.database).absolute()))
    raise BadAddress(f"{kind} is no database that is spoken here; must be {_TAKEN}")


def _postgresql(given: URL) -> URL:
    query = dict(given.query)
    if "ssl" in query:  # asyncpg's name for it
        query["sslmode"] = query.pop("ssl")
    return given.set(drivername="postgresql+psycopg", query=query)
