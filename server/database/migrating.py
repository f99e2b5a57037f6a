"""Brings a database to this version's tables, when the server starts; one server at a time, all of it or nothing."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from server.database.schema import REVISION, VERSIONS_TABLE

SCRIPTS = Path(__file__).parent / "migrations"
_LOCK = 0x6174656C696572  # "atelier": PostgreSQL's advisory locks have numbers


class DatabaseIsNewer(Exception):
    """A newer version of Atelier has been here; what it made of the records is not known."""


def migrate(connection: Connection) -> None:
    """Within the connection's transaction, which SQLite begins as the only writer. Raises DatabaseIsNewer."""
    if version_of(connection) == REVISION:  # nearly always, and without Alembic, which takes a while to import
        return
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its plugins are no news to an operator
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS))
    there = version_of(connection)
    if there not in {None, *(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())}:
        raise DatabaseIsNewer(
            f"the database has version {there}, this server knows none after {REVISION}: "
            "start the newer server again, or give this one a backup of its own time"
        )
    command.upgrade(config, "head")


def version_of(connection: Connection) -> str | None:
    """The database's, None where Atelier was never here."""
    if not inspect(connection).has_table(VERSIONS_TABLE):
        return None
    return connection.execute(text(f"SELECT version_num FROM {VERSIONS_TABLE}")).scalar()  # noqa: S608  # a constant
