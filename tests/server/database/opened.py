"""Stores on a real database, for tests: everything as the server has it, except that the work is done on the caller's thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import URL, Engine

from server.database.engines import reading_engine, writing_engine
from server.database.migrating import migrate
from server.database.outbox import Bell, SqlOutbox
from server.database.reading import Reader
from server.database.sql import SqlJobStore
from server.database.usage import Metering
from server.database.writing import GroupWriter
from server.metering.usage import DeviceTimes
from server.pools import InlinePool
from server.webhook import Channel
from tests.server.database.contract import LEASE


@dataclass(frozen=True)
class Opened:
    """A node's store, and the engines below it."""

    store: SqlJobStore
    outbox: SqlOutbox  # of webhooks
    bell: Bell
    writing: Engine
    reading: Engine


@contextmanager
def opened(url: URL, node: str = "node-1", timeout: float = 5.0, metering: Metering | None = None) -> Iterator[Opened]:
    """A store on a database that is brought up to date."""
    writing, reading = writing_engine(url, timeout), reading_engine(url, timeout, 2)
    try:
        with writing.connect() as connection:
            migrate(connection)
            connection.commit()
        pool = InlinePool()
        bell = Bell()
        writer, reader = GroupWriter(writing, pool), Reader(reading, pool)
        store = SqlJobStore(
            writer=writer,
            reader=reader,
            node=lambda: node,
            lease=LEASE,
            bell=bell,
            metering=metering or Metering(DeviceTimes()),
        )
        outbox = SqlOutbox(Channel.WEBHOOK, writer=writer, reader=reader, node=lambda: node, bell=bell)
        yield Opened(store, outbox, bell, writing, reading)
    finally:
        writing.dispose()
        reading.dispose()
