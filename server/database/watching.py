"""A server that hangs: it keeps its connections open and answers nothing, so that no time-out of its own and none of TCP's comes.

Whoever uses a connection is watched. After too long its socket is shut, which ends the wait in the driver as a lost connection.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import Any

import structlog
from psycopg import OperationalError
from sqlalchemy import Engine, event

from server.clock import Clock, Timer

log = structlog.get_logger("atelier.records")

LOOK_EVERY = 1.0  # seconds
STATEMENTS = 3  # that may each take their whole time; beyond, nobody waits for the rest of a transaction


class Watch:
    """Lets nobody use a connection for longer than `timeout` seconds for each of a few statements."""

    def __init__(self, clock: Clock, timeout: float) -> None:
        self._clock = clock
        self._limit = STATEMENTS * timeout
        self._used: dict[object, tuple[float, Any]] = {}  # when it is too long, and the driver's connection
        self._lock = threading.Lock()  # a connection is not cut when it has just been given to somebody else
        self._timer: Timer | None = None

    def start(self) -> None:
        """Look from now on."""
        self._timer = self._clock.callLater(LOOK_EVERY, self._look)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def over(self, engine: Engine) -> None:
        """Watch whoever has a connection of this engine, on whichever thread. SQLite has no server."""
        if engine.dialect.name != "sqlite":
            event.listen(engine, "checkout", self._taken)
            event.listen(engine, "checkin", self._given_back)

    def _taken(self, connection: Any, record: object, proxy: object) -> None:
        with self._lock:
            self._used[record] = self._clock.seconds() + self._limit, connection

    def _given_back(self, connection: Any, record: object) -> None:
        with self._lock:
            self._used.pop(record, None)

    def _look(self) -> None:
        now = self._clock.seconds()
        with self._lock:
            for late, connection in self._used.values():
                if late <= now:
                    log.warning("records.hang", seconds=self._limit)
                    _cut(connection)
        self.start()


def _cut(connection: Any) -> None:
    with (
        suppress(OperationalError, OSError),  # it is closed already
        socket.socket(fileno=os.dup(connection.fileno())) as shared,
    ):
        shared.shutdown(socket.SHUT_RDWR)
