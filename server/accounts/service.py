"""What can be done with accounts and keys. Every change is logged in the transaction that makes it (`Act`)."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass

from server.accounts import api_keys
from server.accounts.access_tokens import AccessTokens
from server.accounts.directory import Directory
from server.accounts.naming import check_email, check_key_name, check_username
from server.accounts.passwords import Passwords
from server.accounts.records import AccountRecords, Act, ApiKey, Change, User
from server.clock import Clock
from server.errors import Code, Refusal
from server.principal import Principal, Role, Scope

LONGEST_KEY = 10 * 365 * 86_400.0  # seconds; one that outlives its program is nobody's

Gate = Callable[[str, str], Awaitable[None]]
"""Asked before a password is looked at, with the name that was given ("" for a registration) and the caller's address: limits of
logins stand here. Raises Refusal (RESOURCE_EXHAUSTED)."""


async def open_gate(username: str, address: str) -> None:
    """Lets everybody through."""


class Taken(Refusal):
    """A name that somebody has."""

    @classmethod
    def of(cls, field: str) -> Taken:
        """The field."""
        text = f"{field} is taken: somebody has registered with it already"
        return cls(Code.INVALID_PARAMETER, text, field=field, limit="one that nobody has")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountParts:
    """`owners` are names that accounts cannot have, since others own things under them."""

    records: AccountRecords
    directory: Directory
    passwords: Passwords
    tokens: AccessTokens
    clock: Clock
    owners: Collection[str] = ()
    max_keys: int = 50
    gate: Gate = open_gate


class AccountService:
    """`address` is always the caller's, for the log and the gate."""

    def __init__(self, parts: AccountParts) -> None:
        self._parts = parts
        self._records = parts.records
        self._clock = parts.clock

    @property
    def token_seconds(self) -> float:
        """So long an access token holds."""
        return self._parts.tokens.seconds

    async def register(
        self, username: str, email: str, password: str, *, address: str, by: str = "", role: Role = Role.USER
    ) -> User:
        """A new account; `by` an admin, or by itself. Raises Refusal, Taken."""
        check_username(username, self._parts.owners)
        check_email(email)
        await self._parts.gate("", address)
        password_hash = await self._parts.passwords.hashed(password, (username, email))
        user = User(
            id=secrets.token_hex(16),
            username=username,
            email=email,
            password_hash=password_hash,
            role=role,
            created_at=self._clock.seconds(),
        )
        taken = await self._records.add_user(user, self._act(by or username, "user.register", username, address))
        if taken:
            raise Taken.of(taken)
        return user

    async def log_in(self, username: str, password: str, *, address: str) -> str:
        """A new access token. Raises Refusal (UNAUTHENTICATED), the same whether the name or the password is wrong."""
        await self._parts.gate(username.lower(), address)
        user = await self._checked(username, password)
        if user is None:
            await self._records.note([self._act("", "user.refused", username[:64], address)])
            raise Refusal(Code.UNAUTHENTICATED, "the username or the password is wrong", field="password")
        return self._parts.tokens.issue(user.id)

    async def change_password(self, asker: Principal, old: str, new: str, *, address: str) -> None:
        """Access tokens from before hold no more; keys do. Raises Refusal."""
        user = await self._own(asker)
        await self._parts.gate(user.username.lower(), address)
        if not await self._parts.passwords.verify(user.password_hash, old):
            raise Refusal(Code.PERMISSION_DENIED, "the old password is wrong", field="old_password")
        made = await self._parts.passwords.hashed(new, (user.username, user.email))
        await self._change(
            user.id,
            Change(password_hash=made, not_before=self._clock.seconds()),
            self._act_of(asker, "user.password", user.username, address),
        )

    async def own(self, asker: Principal) -> User:
        """The asker's account. Raises Refusal for those who have none."""
        return await self._own(asker)

    async def create_key(
        self, asker: Principal, name: str, scopes: Collection[Scope], seconds: float | None, *, address: str
    ) -> tuple[ApiKey, str]:
        """A new key and, this once, itself. It may do no more than who asks for it. Raises Refusal."""
        user = await self._own(asker)
        check_key_name(name)
        for scope in scopes:
            asker.check(scope)
        if not scopes:
            raise Refusal.invalid("scopes", f"some of {', '.join(Scope)}", [])
        if seconds is not None and not 1 <= seconds <= LONGEST_KEY:
            raise Refusal.invalid("expires_in", f"1 to {LONGEST_KEY:.0f} seconds", seconds)
        now, secret = self._clock.seconds(), api_keys.new_key()
        key = ApiKey(
            id=secrets.token_hex(8),
            user_id=user.id,
            name=name,
            hint=secret[: api_keys.HINT],
            digest=api_keys.digest_of(secret),
            scopes=frozenset(scopes),
            created_at=now,
            expires_at=None if seconds is None else now + seconds,
        )
        act = self._act_of(asker, "key.create", key.id, address, " ".join(sorted(key.scopes)))
        if not await self._records.add_key(key, act, most=self._parts.max_keys):
            limit = f"{self._parts.max_keys} keys in use"
            raise Refusal(Code.RESOURCE_EXHAUSTED, f"this account has {limit}: revoke one first", limit=limit)
        return key, secret

    async def keys(self, asker: Principal) -> Sequence[ApiKey]:
        """The asker's, the newest first. Raises Refusal."""
        return await self._records.keys((await self._own(asker)).id)

    async def revoke_key(self, asker: Principal, key_id: str, *, address: str) -> None:
        """One of the asker's: good no more, here at once. Raises Refusal."""
        user = await self._own(asker)
        act = self._act_of(asker, "key.revoke", key_id[:64], address)
        if not await self._records.revoke_key(user.id, key_id, act):
            raise Refusal(Code.UNKNOWN_MESSAGE, "there is no such key of yours", field="key_id")
        self._parts.directory.forget(user.id)

    # For admins

    async def users(self, asker: Principal, *, skip: int, most: int) -> Sequence[User]:
        """Everybody, the oldest first. Raises Refusal."""
        asker.check(Scope.ADMIN)
        return await self._records.users(skip=skip, most=most)

    async def set_user(
        self, asker: Principal, username: str, *, role: Role | None, is_active: bool | None, address: str
    ) -> User:
        """Somebody's role, and whether they may come in. Raises Refusal."""
        asker.check(Scope.ADMIN)
        user = await self._records.user(username=username)
        if user is None:
            raise Refusal(Code.UNKNOWN_MESSAGE, "there is no such account", field="username")
        if user.username == asker.owner and (is_active is False or role is Role.USER):
            raise Refusal.invalid("username", "another's: an admin cannot shut themselves out", username)
        told = [f"role={role}"] * (role is not None) + [f"active={is_active}"] * (is_active is not None)
        shut = None if is_active is not False else self._clock.seconds()
        return await self._change(
            user.id,
            Change(role=role, is_active=is_active, not_before=shut),
            self._act_of(asker, "user.change", user.username, address, " ".join(told)),
        )

    async def acts(self, asker: Principal, *, before: int, most: int, who: str) -> Sequence[tuple[int, Act]]:
        """The log, the newest first. Raises Refusal."""
        asker.check(Scope.ADMIN)
        return await self._records.acts(before=before, most=most, who=who)

    async def note(self, asker: Principal, action: str, target: str, address: str) -> None:
        """Something that a key or an admin did elsewhere. Raises RecordsUnavailable."""
        await self._records.note([self._act_of(asker, action, target, address)])

    async def is_owner(self, username: str) -> bool:
        """Whether there is an account of this very name, and it is active. Raises RecordsUnavailable."""
        user = await self._records.user(username=username)
        return user is not None and user.is_active and user.username == username

    async def _checked(self, username: str, password: str) -> User | None:
        user = await self._records.user(username=username)
        right = await self._parts.passwords.verify(user.password_hash if user else None, password)
        return user if user is not None and right and user.is_active else None

    async def _own(self, asker: Principal) -> User:
        user = await self._records.user(user_id=asker.user_id) if asker.user_id else None
        if user is None:
            raise Refusal(Code.PERMISSION_DENIED, "this is for accounts: log in at /v1/auth/token")
        return user

    async def _change(self, user_id: str, change: Change, act: Act) -> User:
        try:
            user = await self._records.change_user(user_id, change, act)
        finally:
            self._parts.directory.forget(user_id)
        assert user is not None, "accounts are never removed"
        return user

    def _act(self, who: str, action: str, target: str, address: str, detail: str = "") -> Act:
        return Act(at=self._clock.seconds(), who=who, action=action, target=target, address=address, detail=detail)

    def _act_of(self, asker: Principal, action: str, target: str, address: str, detail: str = "") -> Act:
        return Act(
            at=self._clock.seconds(),
            who=asker.owner,
            key_id=asker.key_id,
            action=action,
            target=target,
            address=address,
            detail=detail,
        )
