"""What was answered before, in the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, delete, literal, select
from sqlalchemy.dialects import postgresql, sqlite

from server.database.reading import Reader
from server.database.schema import answers, jobs
from server.database.writing import GroupWriter

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class SqlAnswers:
    """`AnswerRecords`. A key goes with its job, when that is forgotten."""

    def __init__(self, writer: GroupWriter, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def earlier(self, key: str, owner: str, *, since: float) -> str | None:
        """The owner's job under this key."""
        statement = select(answers.c.job_id).where(
            answers.c.key == key, answers.c.owner == owner, answers.c.at >= since
        )
        return await self._reader.read(lambda connection: connection.execute(statement).scalar_one_or_none())

    async def keep(self, key: str, owner: str, job_id: str, *, at: float) -> None:
        """This job from now on."""
        there = select(literal(key), jobs.c.owner, jobs.c.id, literal(at)).where(
            jobs.c.id == job_id, jobs.c.owner == owner
        )

        def work(connection: Connection) -> None:
            new = _INSERT[connection.dialect.name](answers).from_select(["key", "owner", "job_id", "at"], there)
            changed = {"owner": new.excluded.owner, "job_id": new.excluded.job_id, "at": new.excluded.at}
            connection.execute(new.on_conflict_do_update(index_elements=["key"], set_=changed))

        await self._writer.write(work, durable=False)

    async def forget(self, *, beyond: int, before: float) -> None:
        """The oldest, and what is too old."""

        def work(connection: Connection) -> None:
            connection.execute(delete(answers).where(answers.c.at < before))
            oldest_kept = (
                select(answers.c.at).order_by(answers.c.at.desc()).offset(max(0, beyond - 1)).limit(1).scalar_subquery()
            )
            connection.execute(delete(answers).where(answers.c.at < oldest_kept))

        await self._writer.write(work, durable=False)
