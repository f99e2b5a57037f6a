"""Accounts, keys and the audit log in the records: plain functions for the database's threads, and `AccountRecords` over them.

Names and addresses are told apart whatever their case. Callers' texts are printable before they come here, or made so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from server.accounts.records import Act, ApiKey, Change, User
from server.database.reading import Reader
from server.database.schema import api_keys, audit, users
from server.database.writing import GroupWriter
from server.principal import Role, Scope

_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
MOST_TEXT = 300  # characters of what is logged


def add_user(connection: Connection, user: User, act: Act) -> str:
    """ "", or the field that is taken."""
    row = {
        "id": user.id,
        "username": user.username,
        "username_key": user.username.lower(),
        "email": user.email,
        "email_key": user.email.lower(),
        "password_hash": user.password_hash,
        "role": user.role.value,
        "is_active": user.is_active,
        "created_at": user.created_at,
        "not_before": user.not_before,
    }
    statement = _INSERT[connection.dialect.name](users).values(row).on_conflict_do_nothing().returning(users.c.id)
    if connection.execute(statement).first() is not None:
        add_acts(connection, [act])
        return ""
    named = select(users.c.id).where(users.c.username_key == row["username_key"])
    return "username" if connection.execute(named).first() else "email"


def find_user(connection: Connection, *, username: str = "", user_id: str = "") -> User | None:
    """By its name, or its id."""
    if not _possible(username + user_id):
        return None
    which = users.c.username_key == username.lower() if username else users.c.id == user_id
    row = connection.execute(select(users).where(which)).first()
    return None if row is None else _user(row)


def list_users(connection: Connection, *, skip: int, most: int) -> list[User]:
    """The oldest first."""
    statement = select(users).order_by(users.c.created_at, users.c.id).offset(skip).limit(most)
    return [_user(row) for row in connection.execute(statement)]


def change_user(connection: Connection, user_id: str, change: Change, act: Act) -> User | None:
    """As it is then."""
    values: dict[str, Any] = {
        "password_hash": change.password_hash,
        "role": None if change.role is None else change.role.value,
        "is_active": change.is_active,
        "not_before": change.not_before,
    }
    values = {name: value for name, value in values.items() if value is not None}
    if values:
        connection.execute(update(users).where(users.c.id == user_id).values(values))
    add_acts(connection, [act])
    return find_user(connection, user_id=user_id)


def add_key(connection: Connection, key: ApiKey, act: Act, *, most: int) -> bool:
    """Unless there are too many."""
    in_use = select(func.count()).where(
        api_keys.c.user_id == key.user_id,
        api_keys.c.revoked_at.is_(None),
        or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > key.created_at),
    )
    if connection.execute(in_use).scalar_one() >= most:
        return False
    row = {
        "id": key.id,
        "user_id": key.user_id,
        "name": key.name,
        "hint": key.hint,
        "digest": key.digest,
        "scopes": " ".join(sorted(key.scopes)),
        "created_at": key.created_at,
        "expires_at": key.expires_at,
    }
    connection.execute(insert(api_keys).values(row))
    add_acts(connection, [act])
    return True


def find_key(connection: Connection, digest: str) -> tuple[ApiKey, User] | None:
    """A key and whose it is."""
    row = connection.execute(select(api_keys).where(api_keys.c.digest == digest)).first()
    user = None if row is None else find_user(connection, user_id=row.user_id)
    return None if row is None or user is None else (_key(row), user)


def keys_of(connection: Connection, user_id: str) -> list[ApiKey]:
    """The newest first."""
    statement = select(api_keys).where(api_keys.c.user_id == user_id)
    return [_key(row) for row in connection.execute(statement.order_by(api_keys.c.created_at.desc(), api_keys.c.id))]


def revoke_key(connection: Connection, user_id: str, key_id: str, act: Act) -> bool:
    """Whether there was one; one that was revoked before stays so since then."""
    if not _possible(key_id):
        return False
    which = (api_keys.c.id == key_id, api_keys.c.user_id == user_id)
    values = {"revoked_at": func.coalesce(api_keys.c.revoked_at, act.at)}
    found = connection.execute(update(api_keys).where(*which).values(values)).rowcount
    if found:
        add_acts(connection, [act])
    return bool(found)


def add_acts(connection: Connection, acts: Sequence[Act]) -> None:
    """To the log."""
    rows = [
        {
            "at": act.at,
            "who": _shown(act.who),
            "key_id": act.key_id,
            "action": act.action,
            "target": _shown(act.target),
            "address": _shown(act.address),
            "detail": _shown(act.detail),
        }
        for act in acts
    ]
    if rows:
        connection.execute(insert(audit), rows)


def list_acts(connection: Connection, *, before: int, most: int, who: str) -> list[tuple[int, Act]]:
    """The newest first."""
    statement = select(audit).order_by(audit.c.id.desc()).limit(most)
    if before:
        statement = statement.where(audit.c.id < before)
    if who:
        statement = statement.where(audit.c.who == _shown(who))
    return [
        (
            row.id,
            Act(
                at=row.at,
                who=row.who,
                key_id=row.key_id,
                action=row.action,
                target=row.target,
                address=row.address,
                detail=row.detail,
            ),
        )
        for row in connection.execute(statement)
    ]


class SqlAccounts:
    """An `AccountRecords`. What was changed is on the disk when that is told."""

    def __init__(self, writer: GroupWriter, reader: Reader) -> None:
        self._writer = writer
        self._reader = reader

    async def add_user(self, user: User, act: Act) -> str:
        """ "", or the field that is taken."""
        return await self._writer.write(partial(add_user, user=user, act=act), durable=True)

    async def user(self, *, username: str = "", user_id: str = "") -> User | None:
        """By its name or its id."""
        return await self._reader.read(partial(find_user, username=username, user_id=user_id))

    async def users(self, *, skip: int, most: int) -> Sequence[User]:
        """The oldest first."""
        return await self._reader.read(partial(list_users, skip=skip, most=most))

    async def change_user(self, user_id: str, change: Change, act: Act) -> User | None:
        """As it is then."""
        return await self._writer.write(partial(change_user, user_id=user_id, change=change, act=act), durable=True)

    async def add_key(self, key: ApiKey, act: Act, *, most: int) -> bool:
        """Unless there are too many."""
        return await self._writer.write(partial(add_key, key=key, act=act, most=most), durable=True)

    async def key(self, digest: str) -> tuple[ApiKey, User] | None:
        """A key and whose it is."""
        return await self._reader.read(partial(find_key, digest=digest))

    async def keys(self, user_id: str) -> Sequence[ApiKey]:
        """The newest first."""
        return await self._reader.read(partial(keys_of, user_id=user_id))

    async def revoke_key(self, user_id: str, key_id: str, act: Act) -> bool:
        """Whether there was one."""
        return await self._writer.write(partial(revoke_key, user_id=user_id, key_id=key_id, act=act), durable=True)

    async def used(self, keys: Mapping[str, float]) -> None:
        """In one statement for all; a later time that another node has written stays."""
        rows = [{"key": key_id, "at": at} for key_id, at in keys.items()]
        later = or_(api_keys.c.last_used_at.is_(None), api_keys.c.last_used_at < bindparam("at"))
        statement = (
            update(api_keys).where(api_keys.c.id == bindparam("key"), later).values(last_used_at=bindparam("at"))
        )
        await self._writer.write(lambda connection: _run(connection, statement, rows), durable=False)

    async def note(self, acts: Sequence[Act]) -> None:
        """To the log."""
        await self._writer.write(partial(add_acts, acts=acts), durable=False)

    async def acts(self, *, before: int, most: int, who: str) -> Sequence[tuple[int, Act]]:
        """The newest first."""
        return await self._reader.read(partial(list_acts, before=before, most=most, who=who))

    async def forget_acts(self, *, before: float) -> None:
        """Older ones."""
        statement = delete(audit).where(audit.c.at < before)
        await self._writer.write(lambda connection: _run(connection, statement), durable=False)


def _possible(text: str) -> bool:
    """Whether it could be a name or an id; what is not ASCII none of them is, and not every database takes."""
    return text.isascii() and text.isprintable()


def _run(connection: Connection, statement: Any, rows: Any = None) -> None:
    connection.execute(statement, rows)


def _shown(text: str) -> str:
    """On one line, and of characters that every database takes."""
    return "".join(c if c.isprintable() else "?" for c in text)[:MOST_TEXT]


def _user(row: Row[Any]) -> User:
    return User(
        id=row.id,
        username=row.username,
        email=row.email,
        password_hash=row.password_hash,
        role=Role(row.role),
        is_active=row.is_active,
        created_at=row.created_at,
        not_before=row.not_before,
    )


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        id=row.id,
        user_id=row.user_id,
        name=row.name,
        hint=row.hint,
        digest=row.digest,
        scopes=frozenset(map(Scope, row.scopes.split())),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
    )
