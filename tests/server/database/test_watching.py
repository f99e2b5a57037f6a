"""A PostgreSQL that hangs: its connections are open, and it answers nothing."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import URL, Connection, text

from server.database.engines import reading_engine, writing_engine
from server.database.reading import Reader
from server.database.watching import STATEMENTS, Watch
from server.database.writing import GroupWriter
from server.errors import RecordsUnavailable
from server.pools import ThreadedPool
from tests.postgres import PostgresServer

TIMEOUT = 0.3  # seconds


def one(connection: Connection) -> int:
    """Something to ask."""
    return int(connection.execute(text("SELECT 1")).scalar_one())


async def test_nobody_waits_for_ever_for_a_server_that_hangs(
    postgres: PostgresServer, postgres_url: URL, reactor: Any, logs: list[Any]
) -> None:
    """Who writes and who reads hears that the records are away, and is answered again when the server goes on."""
    pools = [ThreadedPool("records", 1), ThreadedPool("records-reading", 1)]
    engines = [writing_engine(postgres_url, TIMEOUT), reading_engine(postgres_url, TIMEOUT, 1)]
    watch = Watch(reactor, TIMEOUT)
    for engine in engines:
        watch.over(engine)
    for pool in pools:
        pool.start()
    watch.start()
    writer, reader = GroupWriter(engines[0], pools[0]), Reader(engines[1], pools[1])
    try:
        assert (await writer.write(one, durable=True), await reader.read(one)) == (1, 1)
        postgres.hang()
        try:
            for asked in (writer.write(one, durable=True), reader.read(one)):
                began = reactor.seconds()
                with pytest.raises(RecordsUnavailable):
                    await asked
                assert reactor.seconds() - began >= STATEMENTS * TIMEOUT
        finally:
            postgres.go_on()
        assert (await writer.write(one, durable=True), await reader.read(one)) == (1, 1)
        assert [entry["event"] for entry in logs] == ["records.hang"] * 2
    finally:
        watch.stop()
        for stopped in pools:
            stopped.stop()
        for engine in engines:
            engine.dispose()
