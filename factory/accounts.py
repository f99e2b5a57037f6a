"""Accounts from the settings: the server's secret, the directory that every door asks, and what keeps both in order."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import structlog
from argon2 import PasswordHasher

from config import Settings, SettingsError
from factory.joining import joined
from factory.records import Records
from server.accounts.access_tokens import AccessTokens
from server.accounts.directory import USED_EVERY, Directory
from server.accounts.passwords import Passwords
from server.accounts.service import AccountParts, AccountService, Gate, open_gate
from server.clock import Clock, Pauses
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.identity import LOCAL_OWNER, Identities
from server.picture_access import PictureAccess
from server.pools import ThreadedPool
from server.principal import Principal

log = structlog.get_logger("atelier")

SECRET_FILE = "secret_key"  # noqa: S105  # its name
FORGET_EVERY = 3600.0  # seconds between two looks for acts that are old


class AccountsHouse:
    """`identities` are every door's; `service` is what can be done; `access` is who may see pictures."""

    def __init__(self, settings: Settings, reactor: Any, records: Records, gate: Gate = open_gate) -> None:
        clock = cast(Clock, reactor)
        self._reactor = reactor
        self._clock = clock
        self._records = records.accounts
        self._audit_seconds = settings.audit_days * 86_400
        self._pool = ThreadedPool("passwords", settings.password_threads)
        self._tasks = Tasks()
        self._settings = settings
        self._tokens = tokens = AccessTokens(clock, issuer=settings.token_issuer, seconds=settings.access_token_seconds)
        self.directory = Directory(records.accounts, tokens, clock, seconds=settings.identity_cache_seconds)
        self.identities = Identities(settings.tokens, self.directory, required=settings.require_account)
        owners = {*settings.tokens, settings.rabbitmq_owner, settings.http_anonymous_owner, LOCAL_OWNER} - {""}
        self.service = AccountService(
            AccountParts(
                records=records.accounts,
                directory=self.directory,
                passwords=Passwords(PasswordHasher(), self._pool, settings.max_waiting_passwords),
                tokens=tokens,
                clock=clock,
                owners=owners,
                max_keys=settings.max_keys_per_user,
                gate=gate,
            )
        )
        self._owners = owners
        self.access = PictureAccess(
            records.published,
            clock,
            seconds=settings.signed_url_seconds,
            everybody=() if self.identities.authenticates else {LOCAL_OWNER},
        )
        self._pauses = Pauses(clock)

    async def may_own(self, owner: str) -> bool:
        """Whether there is such an owner: of the settings, or an account that is active. Raises RecordsUnavailable."""
        return owner in self._owners or await self.service.is_owner(owner)

    def note(self, principal: Principal, action: str, target: str, address: str) -> None:
        """To the audit log, in a moment."""
        self._tasks.start(self._note(principal, action, target, address))

    async def _note(self, principal: Principal, action: str, target: str, address: str) -> None:
        try:
            await self.service.note(principal, action, target, address)
        except RecordsUnavailable as error:
            log.warning("audit.lost", who=principal.owner, action=action, target=target, reason=error.reason)

    async def open(self) -> None:
        """Read the secret; the data folder must be held. Raises SettingsError."""
        self._pool.start()
        found = await self._pool.run(server_secrets, self._settings)
        self._tokens.sign_with(found)
        self.access.sign_with(found)

    def begin(self) -> None:
        """Write down now and then when keys were used, and forget what is old."""
        self._tasks.start(self._keep_for_ever())

    async def close(self) -> bool:
        """Whether the threads ended. The records must still be open."""
        self._pauses.stop()
        if self._pool.started:
            await self._record_use()
        return await joined(self._reactor, self._pool.stop)

    async def _keep_for_ever(self) -> None:
        forget_at = 0.0
        while await self._pauses.take(USED_EVERY):
            await self._record_use()
            if self._clock.seconds() >= forget_at:
                forget_at = self._clock.seconds() + FORGET_EVERY
                await self._forget()

    async def _record_use(self) -> None:
        try:
            await self.directory.record_use()
        except RecordsUnavailable:
            return  # it is said the next time it is used

    async def _forget(self) -> None:
        try:
            await self._records.forget_acts(before=self._clock.seconds() - self._audit_seconds)
        except RecordsUnavailable:
            return


def server_secrets(settings: Settings) -> list[bytes]:
    """The present secret, then earlier ones."""
    given = settings.secret_key.get_secret_value()
    present = given.encode() if given else _kept_secret(settings.data_dir)
    return [present, *(secret.get_secret_value().encode() for secret in settings.previous_secret_keys)]


def _kept_secret(folder: Path) -> bytes:
    """This node's own, made at its first start."""
    path = folder / SECRET_FILE
    try:
        if not path.exists():
            _make_secret(path)
        found = path.read_bytes().strip()
    except OSError as error:
        raise SettingsError(f"ATELIER_DATA_DIR: {path}: {error.strerror or error}") from error
    if len(found) < 32:
        raise SettingsError(f"ATELIER_DATA_DIR: {path} is no secret: remove it, and a new one is made")
    return found


def _make_secret(path: Path) -> None:
    """Whole or not at all, and once, whichever of several processes comes first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mine = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(secrets.token_hex(32).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(mine, path)
    finally:
        mine.unlink(missing_ok=True)
