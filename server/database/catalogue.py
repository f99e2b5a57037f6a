"""Registered models and adapters in the database.

Each is a row with its document (JSON). Every change takes the next number of one counter, in the same transaction and in the
order of the commits, so that a node that has seen all up to a number asks for what is above it alone.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json
from sqlalchemy import Connection, Delete, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from server.catalogue.store import Changes, R, Record
from server.database.reading import Reader
from server.database.schema import IS_LIVE, catalogue, catalogue_revision, jobs
from server.database.writing import GroupWriter
from server.errors import Code, Refusal
from server.model_records import AdapterRecord, ModelRecord

_MODEL, _ADAPTER = "model", "adapter"
_TYPES: dict[str, TypeAdapter[Any]] = {_MODEL: TypeAdapter(ModelRecord), _ADAPTER: TypeAdapter(AdapterRecord)}
_BYTES = "base64 bytes"
_ESCAPED = str.maketrans({"%": "!%", "_": "!_", "!": "!!"})


class SqlCatalogue:
    """A `CatalogueStore`. `seconds` is the UTC clock."""

    def __init__(self, writer: GroupWriter, reader: Reader, seconds: Callable[[], float]) -> None:
        self._writer = writer
        self._reader = reader
        self._seconds = seconds

    async def changes(self, since: int) -> Changes:
        """Everything since that revision."""
        return await self._reader.read(partial(_changes, since=since))

    async def add(self, record: Record, *, most: int) -> None:
        """A new one."""
        await self._writer.write(partial(_add, record=record, most=most), durable=True)

    async def change(self, record_id: str, edit: Callable[[R], R]) -> R:
        """Put what `edit` makes of it in its place."""
        work = partial(_change, record_id=record_id, edit=edit, at=self._seconds())
        changed: R = await self._writer.write(work, durable=True)
        return changed

    async def in_use(self, name: str) -> bool:
        """Whether a job that has not ended names this."""
        pattern = f'%"{name.translate(_ESCAPED)}"%'  # in the JSON of its request; names need no quoting there
        named = select(jobs.c.id).where(IS_LIVE, jobs.c.request.like(pattern, escape="!")).limit(1)
        return await self._reader.read(lambda connection: connection.execute(named).first() is not None)

    async def deleted(self, *, before: float) -> Sequence[Record]:
        """What was deleted before then."""
        old = select(catalogue).where(catalogue.c.deleted_at < before).order_by(catalogue.c.revision)
        return await self._reader.read(lambda connection: [_record(row) for row in connection.execute(old)])

    async def forget(self, record_ids: Sequence[str]) -> None:
        """Deleted records."""
        gone = delete(catalogue).where(catalogue.c.id.in_(record_ids), catalogue.c.deleted_at.is_not(None))
        await self._writer.write(partial(_run, statement=gone), durable=False)


# On the database's threads


def _kind(record: Record) -> str:
    return _MODEL if isinstance(record, ModelRecord) else _ADAPTER


def _text(record: Record) -> str:
    return to_json(_packed(_TYPES[_kind(record)].dump_python(record)), ensure_ascii=True).decode()


def _record(row: Any) -> Any:
    return _TYPES[row.kind].validate_python(_unpacked(from_json(row.document)))


def _packed(value: Any) -> Any:
    """Bytes (a signature's picture) as an object of one key, which no record has."""
    if isinstance(value, bytes):
        return {_BYTES: b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: _packed(inner) for name, inner in value.items()}
    return [_packed(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _unpacked(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_BYTES}:
            return b64decode(value[_BYTES])
        return {name: _unpacked(inner) for name, inner in value.items()}
    return [_unpacked(inner) for inner in value] if isinstance(value, list) else value


def _next_revision(connection: Connection) -> int:
    """Taken under the counter's own lock until the commit, so that numbers come in the order of the commits."""
    row = catalogue_revision
    if connection.execute(update(row).values(revision=row.c.revision + 1)).rowcount == 0:
        connection.execute(insert(row).values(id=1, revision=1))
    return int(connection.execute(select(row.c.revision)).scalar_one())


def _changes(connection: Connection, since: int) -> Changes:
    revision = connection.execute(select(catalogue_revision.c.revision)).scalar() or 0
    if revision <= since:
        return Changes(since, ())
    which = catalogue.c.revision.between(since + 1, revision)
    rows = connection.execute(select(catalogue).where(which).order_by(catalogue.c.revision))
    return Changes(revision, [_record(row) for row in rows])


def _add(connection: Connection, record: Record, most: int) -> None:
    revision = _next_revision(connection)
    theirs = [catalogue.c.kind == _kind(record), catalogue.c.owner == record.owner, catalogue.c.deleted_at.is_(None)]
    if connection.execute(select(catalogue.c.id).where(*theirs, catalogue.c.name == record.name)).first():
        raise _taken(record)
    if (connection.execute(select(func.count()).select_from(catalogue).where(*theirs)).scalar() or 0) >= most:
        text = f"you have {most} {_kind(record)}s, which is the limit"
        raise Refusal(Code.RESOURCE_EXHAUSTED, text, field="name", limit=f"at most {most}")
    try:
        connection.execute(
            insert(catalogue).values(
                id=record.id,
                kind=_kind(record),
                owner=record.owner,
                name=record.name,
                document=_text(record),
                revision=revision,
            )
        )
    except IntegrityError:  # another node, a moment ago
        raise _taken(record) from None


def _taken(record: Record) -> Refusal:
    return Refusal.invalid("name", f"a name that none of your {_kind(record)}s has", record.name)


def _change(connection: Connection, record_id: str, edit: Callable[[Any], Any], at: float) -> Any:
    revision = _next_revision(connection)  # which is a lock as well
    row = connection.execute(
        select(catalogue).where(catalogue.c.id == record_id, catalogue.c.deleted_at.is_(None))
    ).first()
    if row is None:
        raise Refusal(Code.MODEL_NOT_FOUND, "it is not here any more", field="id")
    changed = edit(_record(row))
    connection.execute(
        update(catalogue)
        .where(catalogue.c.id == record_id)
        .values(document=_text(changed), revision=revision, deleted_at=at if changed.deleted else None)
    )
    return changed


def _run(connection: Connection, statement: Delete) -> None:
    connection.execute(statement)
