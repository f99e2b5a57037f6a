"""Reads, each for itself, on threads of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from server.database.writing import is_unavailable, reason_of
from server.errors import RecordsUnavailable
from server.interfaces import Pool

T = TypeVar("T")


class Reader:
    """Reads by one engine. `pool` must not have more threads than the engine has connections."""

    def __init__(self, engine: Engine, pool: Pool) -> None:
        self._engine = engine
        self._pool = pool

    async def read(self, work: Callable[[Connection], T]) -> T:
        """What `work` gives. Raises RecordsUnavailable."""
        return await self._pool.run(self._now, work)

    def _now(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            if not is_unavailable(error):
                raise
            raise RecordsUnavailable(reason_of(error)) from error
