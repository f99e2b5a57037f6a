"""From any database to today's tables."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Column, Connection, MetaData, Table, insert, inspect, select, text

from server.database.address import address
from server.database.engines import writing_engine
from server.database.migrating import SCRIPTS, DatabaseIsNewer, migrate, version_of
from server.database.rows import artifact_row, call_row, rows_of
from server.database.schema import REVISION, VERSIONS_TABLE, metadata
from server.webhook import Channel, OutboxCall
from tests.postgres import PostgresServer
from tests.server.database.contract import ARTIFACT, a_job
from tests.server.database.opened import opened


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[URL]:
    """A database that Atelier has never seen."""
    if request.param == "sqlite":
        yield address("", tmp_path)
        return
    postgres: PostgresServer = request.getfixturevalue("postgres")
    postgres.sql("CREATE DATABASE empty")
    yield address(postgres.url("empty"), tmp_path)
    postgres.sql("DROP DATABASE empty WITH (FORCE)")


def _described(connection: Connection) -> dict[str, Any]:
    """All that the database says of its tables, in an order that does not matter."""
    looking = inspect(connection)
    return {
        table: {
            "columns": {
                column["name"]: (str(column["type"]), column["nullable"], column["default"])
                for column in looking.get_columns(table)
            },
            "key": looking.get_pk_constraint(table)["constrained_columns"],
            "uniques": sorted(map(str, looking.get_unique_constraints(table))),
            "checks": sorted(map(str, looking.get_check_constraints(table))),
            "indexes": sorted(
                (
                    index["name"],
                    index["column_names"],
                    index["unique"],
                    sorted(map(str, index["dialect_options"].values())),
                )
                for index in looking.get_indexes(table)
            ),
            "references": sorted(map(str, looking.get_foreign_keys(table))),
        }
        for table in metadata.tables
    }


def test_the_migrations_make_what_the_schema_says(empty: URL) -> None:
    """Tables, columns, keys, checks and indexes are those of server/database/schema.py, and none is left out."""
    engine = writing_engine(empty, 5.0)
    with engine.connect() as connection:
        metadata.create_all(connection)
        wanted = _described(connection)
        metadata.drop_all(connection)
        connection.commit()
        migrate(connection)
        connection.commit()
        assert _described(connection) == wanted
        assert set(inspect(connection).get_table_names()) == {*metadata.tables, VERSIONS_TABLE}
        assert version_of(connection) == REVISION
    engine.dispose()


def test_the_newest_migration_is_the_schema_s() -> None:
    """Or a server would find its own database old at every start."""
    assert _scripts().get_current_head() == REVISION


def test_a_migration_that_is_not_committed_leaves_nothing(empty: URL) -> None:
    """All of it or nothing: a server that is killed in the middle has changed nothing."""
    engine = writing_engine(empty, 5.0)
    with engine.connect() as connection:
        migrate(connection)
    with engine.connect() as connection:
        assert inspect(connection).get_table_names() == []
    engine.dispose()


def test_a_newer_database_is_left_alone(empty: URL) -> None:
    """The message says what to do, and nothing is changed."""
    engine = writing_engine(empty, 5.0)
    with engine.connect() as connection:
        migrate(connection)
        connection.execute(text(f"UPDATE {VERSIONS_TABLE} SET version_num = '9999'"))
        connection.commit()
        with pytest.raises(DatabaseIsNewer, match=r"9999.*backup"):
            migrate(connection)
    engine.dispose()


def _older() -> list[str]:
    """Every version before the newest."""
    return [script.revision for script in _scripts().walk_revisions() if script.revision != REVISION]


def _scripts() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    return ScriptDirectory.from_config(config)


def _migrate_to(connection: Connection, version: str) -> None:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(SCRIPTS))
    command.upgrade(config, version)


@pytest.mark.parametrize("version", _older())
async def test_an_older_server_goes_on_while_a_newer_one_has_migrated(empty: URL, version: str) -> None:
    """Nodes are upgraded one after the other: what the older ones write and read fits, and the newer ones read it."""
    engine = writing_engine(empty, 5.0)
    with engine.connect() as connection:
        _migrate_to(connection, version)
        looking = inspect(connection)
        known = {
            table: [column["name"] for column in looking.get_columns(table)]
            for table in looking.get_table_names()
            if table != VERSIONS_TABLE
        }
        connection.commit()
        migrate(connection)
        connection.commit()
    rows = rows_of(a_job())
    rows.job.update(node="old", lease_until=1.0)
    call = call_row(
        OutboxCall(id="a", job_id="job-1", name="end", channel=Channel.WEBHOOK, payload="{}", position=1), at=0.0
    )
    written = {
        "jobs": [rows.job],
        "job_inputs": rows.inputs,
        "artifacts": [artifact_row("job-1", ARTIFACT)],
        "latents": [{"job_id": "job-1", "image_index": 0, "step": 3, "data": b"x"}],
        "outbox": [call],
    }
    with engine.connect() as connection:
        for name in ("jobs", *sorted(known.keys() - {"jobs"})):
            table = Table(name, MetaData(), *(Column(column) for column in known[name]))
            for row in written.get(name, []):  # a table of which nothing is written here is looked at all the same
                connection.execute(
                    insert(table).values({column: row[column] for column in known[name] if column in row})
                )
            assert len(connection.execute(select(table)).all()) >= len(written.get(name, []))
        connection.commit()
    engine.dispose()
    with opened(empty) as node:
        assert (await node.store.get("job-1")) is not None
        taken = await node.store.take("job-1", at=2.0)
        assert taken is not None
        assert taken.request == a_job().request
        if "outbox" in known:
            assert [one.call.id for one in await node.outbox.claim(at=1, until=2, most=9, room={}, others=9)] == ["a"]


def test_servers_that_start_together_migrate_once(empty: URL) -> None:
    """One does it, the others wait and find it done."""
    failures: list[BaseException] = []

    def start() -> None:
        engine = writing_engine(empty, 30.0)
        try:
            with engine.connect() as connection:
                migrate(connection)
                connection.commit()
        except BaseException as error:
            failures.append(error)
        engine.dispose()

    threads = [threading.Thread(target=start) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
