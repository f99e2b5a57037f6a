"""Which jobs' pictures are everybody's."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from server.database.reading import Reader
from server.database.schema import published_jobs
from server.database.writing import GroupWriter

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class SqlPublished:
    """A `server.picture_access.Published`."""

    def __init__(self, writer: GroupWriter, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def is_public(self, job_id: str) -> bool:
        """Whether a job's are."""
        statement = select(published_jobs.c.job_id).where(published_jobs.c.job_id == job_id)
        return await self._reader.read(lambda connection: connection.execute(statement).first() is not None)

    async def set_public(self, job_id: str, public: bool, *, at: float) -> None:
        """From now on, or no more; the same once more changes nothing."""
        row = {"job_id": job_id, "at": at}

        def work(connection: Connection) -> None:
            if public:
                insert = _INSERT[connection.dialect.name](published_jobs)
                connection.execute(insert.values(row).on_conflict_do_nothing())
            else:
                connection.execute(delete(published_jobs).where(published_jobs.c.job_id == job_id))

        await self._writer.write(work, durable=True)
