"""`atelier users`, `atelier keys`, `atelier audit`: accounts in the records, beside a running server or without one.

A running server notices what is changed here within IDENTITY_CACHE_SECONDS.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from argon2 import PasswordHasher
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from sqlalchemy import Connection

from atelier.output import print_json
from atelier.records import Unusable, own_settings, records, told
from atelier.running import say
from server.accounts import api_keys
from server.accounts.naming import check_email, check_key_name, check_password, check_strength, check_username
from server.accounts.records import Act, ApiKey, Change, User
from server.database.accounts import (
    add_key,
    add_user,
    change_user,
    find_user,
    keys_of,
    list_acts,
    list_users,
    revoke_key,
)
from server.identity import LOCAL_OWNER
from server.principal import Role, Scope

WHO = "command line"
MADE = 18  # random bytes of a password that is made here


def create_user(username: str, email: str, role: Role, *, ask: bool) -> int:
    """Make an account. Its password is read from stdin, or made and printed, once."""
    with told() as outcome:
        settings = own_settings()
        others = {*settings.tokens, settings.rabbitmq_owner, settings.http_anonymous_owner, LOCAL_OWNER} - {""}
        check_username(username, others)
        check_email(email)
        password = _password(ask, (username, email))
        user = User(
            id=secrets.token_hex(16),
            username=username,
            email=email,
            password_hash=PasswordHasher().hash(password),
            role=role,
            created_at=time.time(),
        )
        with records() as connection:
            taken = add_user(connection, user, _act("user.register", username, f"role={role}"))
            connection.commit()
        if taken:
            raise Unusable(f"{taken} is taken")
        _tell_password(password, ask)
    return outcome.status


def show_users(*, as_json: bool) -> int:
    """Print every account."""
    with told() as outcome:
        with records() as connection:
            found = list_users(connection, skip=0, most=1_000_000)
        plain = [
            {
                "username": user.username,
                "email": user.email,
                "role": user.role.value,
                "active": user.is_active,
                "since": _time(user.created_at),
            }
            for user in found
        ]
        _show("users", plain, as_json)
    return outcome.status


def set_role(username: str, role: Role) -> int:
    """Make somebody an admin, or a user."""
    return _changed(username, Change(role=role), "user.change", f"role={role}")


def set_active(username: str, active: bool) -> int:
    """Let somebody in, or no more: access tokens end, keys rest."""
    shut = None if active else time.time()
    return _changed(username, Change(is_active=active, not_before=shut), "user.change", f"active={active}")


def reset_password(username: str, *, ask: bool) -> int:
    """Give somebody another password; their access tokens end."""
    with told() as outcome:
        with records() as connection:
            user = _user(connection, username)
            password = _password(ask, (user.username, user.email))
            change = Change(password_hash=PasswordHasher().hash(password), not_before=time.time())
            change_user(connection, user.id, change, _act("user.password", user.username))
            connection.commit()
        _tell_password(password, ask)
    return outcome.status


def create_key(username: str, name: str, scopes: Sequence[Scope], days: float | None) -> int:
    """Make an API key of somebody's, and print it, once."""
    with told() as outcome:
        check_key_name(name)
        now, secret = time.time(), api_keys.new_key()
        with records() as connection:
            user = _user(connection, username)
            if {Scope.ADMIN, Scope.SETTINGS}.intersection(scopes) and user.role is not Role.ADMIN:
                raise Unusable(f"{user.username} is no admin, and a key can do no more than its owner")
            key = ApiKey(
                id=secrets.token_hex(8),
                user_id=user.id,
                name=name,
                hint=secret[: api_keys.HINT],
                digest=api_keys.digest_of(secret),
                scopes=frozenset(scopes),
                created_at=now,
                expires_at=None if days is None else now + days * 86_400,
            )
            act = _act("key.create", key.id, f"of {user.username}: {' '.join(sorted(key.scopes))}")
            if not add_key(connection, key, act, most=own_settings().max_keys_per_user):
                raise Unusable(f"{user.username} has as many keys in use as are allowed (ATELIER_MAX_KEYS_PER_USER)")
            connection.commit()
        print(secret)
        say(f"key {key.id} of {user.username}: it is shown this once")
    return outcome.status


def show_keys(username: str, *, as_json: bool) -> int:
    """Print somebody's keys, or everybody's."""
    with told() as outcome:
        with records() as connection:
            users = [_user(connection, username)] if username else list_users(connection, skip=0, most=1_000_000)
            plain = [
                {
                    "id": key.id,
                    "user": user.username,
                    "name": key.name,
                    "key": f"{key.hint}…",
                    "scopes": " ".join(sorted(key.scopes)),
                    "until": _time(key.expires_at),
                    "revoked": _time(key.revoked_at),
                    "used": _time(key.last_used_at),
                }
                for user in users
                for key in keys_of(connection, user.id)
            ]
        _show("keys", plain, as_json)
    return outcome.status


def revoke(username: str, key_id: str) -> int:
    """A key of somebody's holds no more."""
    with told() as outcome:
        with records() as connection:
            user = _user(connection, username)
            if not revoke_key(connection, user.id, key_id, _act("key.revoke", key_id)):
                raise Unusable(f"{user.username} has no key {key_id}")
            connection.commit()
        say(f"key {key_id} holds no more")
    return outcome.status


def audit(who: str, most: int, *, as_json: bool) -> int:
    """Print what admins and keys did, the newest last."""
    with told() as outcome:
        with records() as connection:
            found = list_acts(connection, before=0, most=most, who=who)
        plain = [
            {
                "at": _time(act.at),
                "who": act.who,
                "key": act.key_id,
                "action": act.action,
                "target": act.target,
                "address": act.address,
                "detail": act.detail,
            }
            for _, act in reversed(found)
        ]
        _show("acts", plain, as_json)
    return outcome.status


def _changed(username: str, change: Change, action: str, detail: str) -> int:
    with told() as outcome:
        with records() as connection:
            user = _user(connection, username)
            change_user(connection, user.id, change, _act(action, user.username, detail))
            connection.commit()
        say(f"{user.username}: {detail}")
    return outcome.status


def _user(connection: Connection, username: str) -> User:
    user = find_user(connection, username=username) if username else None
    if user is None:
        raise Unusable(f"there is no account {username!r} (`atelier users list` shows them)")
    return user


def _password(ask: bool, known: Sequence[str]) -> str:
    if not ask:
        return secrets.token_urlsafe(MADE)
    password = sys.stdin.readline().rstrip("\r\n")
    check_password(password)
    check_strength(password, known)
    return password


def _tell_password(password: str, asked: bool) -> None:
    if not asked:
        print(password)
        say("the password: it is shown this once")


def _act(action: str, target: str, detail: str = "") -> Act:
    return Act(at=time.time(), who=WHO, action=action, target=target, detail=detail)


def _show(name: str, plain: Sequence[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json({name: list(plain)})
    elif not plain:
        say("none")
    else:
        table = Table(box=None)
        for title in plain[0]:
            table.add_column(title, overflow="fold", no_wrap=title == "id")  # which is copied into the next command
        for row in plain:
            table.add_row(*(escape(str(value)) for value in row.values()))
        Console().print(table)


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
