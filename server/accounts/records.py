"""What is kept of accounts, and what the records are asked. Times are seconds since 1970."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from server.principal import Role, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """An account. Access tokens from before `not_before` hold no more."""

    id: str
    username: str
    email: str
    password_hash: str = field(repr=False)
    role: Role = Role.USER
    is_active: bool = True
    created_at: float = 0.0
    not_before: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """A key, without the key: its `digest`, and its first characters as a `hint`."""

    id: str
    user_id: str
    name: str
    hint: str
    digest: str = field(repr=False)
    scopes: frozenset[Scope]
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None

    def holds(self, at: float) -> bool:
        """Whether it is good at that time."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What somebody did: `who` (an owner, or "command line"), by which key, what, to whom or what, from which address."""

    at: float
    who: str
    action: str
    target: str = ""
    key_id: str = ""
    address: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What becomes of an account; None: as it was."""

    password_hash: str | None = field(default=None, repr=False)
    role: Role | None = None
    is_active: bool | None = None
    not_before: float | None = None


class AccountRecords(Protocol):
    """Where accounts are kept. Everything here raises RecordsUnavailable while the database cannot be used."""

    async def add_user(self, user: User, act: Act) -> str:
        """Keep a new one; gives "", or which of its fields is taken ("username", "email")."""
        ...

    async def user(self, *, username: str = "", user_id: str = "") -> User | None:
        """By its name (in whichever case) or its id."""
        ...

    async def users(self, *, skip: int, most: int) -> Sequence[User]:
        """The oldest first."""
        ...

    async def change_user(self, user_id: str, change: Change, act: Act) -> User | None:
        """As it is now; None where there is none."""
        ...

    async def add_key(self, key: ApiKey, act: Act, *, most: int) -> bool:
        """Keep a new one, unless the account has so many in use already."""
        ...

    async def key(self, digest: str) -> tuple[ApiKey, User] | None:
        """A key, good or not, and whose it is."""
        ...

    async def keys(self, user_id: str) -> Sequence[ApiKey]:
        """All of an account, the newest first."""
        ...

    async def revoke_key(self, user_id: str, key_id: str, act: Act) -> bool:
        """Whether there was one of this account's."""
        ...

    async def used(self, keys: Mapping[str, float]) -> None:
        """When keys were used last, by their ids."""
        ...

    async def note(self, acts: Sequence[Act]) -> None:
        """Add to the log."""
        ...

    async def acts(self, *, before: int, most: int, who: str) -> Sequence[tuple[int, Act]]:
        """The newest first, from before a number on (0: all); of one, or of everybody ("")."""
        ...

    async def forget_acts(self, *, before: float) -> None:
        """Those that are older."""
        ...
