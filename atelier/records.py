"""The server's records, for commands that work on them beside a running server or without one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from atelier.running import say
from config import Settings, SettingsError
from factory.node_settings import node_settings
from server.database.address import BadAddress, address
from server.database.engines import writing_engine
from server.database.migrating import version_of
from server.database.schema import REVISION
from server.database.writing import reason_of
from server.errors import Refusal


class Unusable(Exception):
    """What was asked cannot be done; the text says why."""


class Outcome:
    """What the command ends with."""

    status = 0


@contextmanager
def told() -> Iterator[Outcome]:
    """What goes wrong is told in a line; `status` is then the command's."""
    outcome = Outcome()
    try:
        yield outcome
    except (SettingsError, BadAddress) as error:
        say(str(error))
        outcome.status = 2
    except (Unusable, Refusal) as error:
        say(str(error))
        outcome.status = 1
    except SQLAlchemyError as error:
        say(f"the records cannot be used: {reason_of(error)}")
        outcome.status = 1


def own_settings() -> Settings:
    """Those of the server that is beside us. Raises SettingsError."""
    found = node_settings()
    if found.problem:
        say(f"settings: {found.source}")
    return found.settings


@contextmanager
def records() -> Iterator[Connection]:
    """The server's own database. WAL lets others write beside it, one at a time, each for a moment."""
    settings = own_settings()
    url = address(settings.database_url.get_secret_value(), settings.data_dir)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        raise Unusable(f"there are no records in {url.database}: is this the server's folder, with its settings?")
    engine = writing_engine(url, settings.database_timeout)
    try:
        with engine.connect() as connection:
            there = version_of(connection)
            if there != REVISION:
                raise Unusable(
                    f"the records have version {there}, and this command knows {REVISION}: start the server first"
                )
            yield connection
    finally:
        engine.dispose()
