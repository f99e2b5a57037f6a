"""Passwords by Argon2id, hashed on threads of their own: a hash takes 0.13 s and 64 MiB, on purpose.

Only so many wait; more are refused at once. An unknown account costs as much as a wrong password: a hash is verified for both.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection
from typing import ParamSpec, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

from server.accounts.naming import check_password, check_strength
from server.errors import Code, Refusal
from server.interfaces import Pool

P = ParamSpec("P")
T = TypeVar("T")

RETRY_AFTER = 2.0  # seconds: by then those that wait have had their turn


class Passwords:
    """`most_waiting` may be under way or wait for the pool's threads."""

    def __init__(self, hasher: PasswordHasher, pool: Pool, most_waiting: int) -> None:
        self._hasher = hasher
        self._pool = pool
        self._most = most_waiting
        self._waiting = 0
        self._nobodys = ""

    async def hashed(self, password: str, known: Collection[str]) -> str:
        """A new password's hash. `known` are texts about its owner. Raises Refusal: too weak, or too many wait."""
        check_password(password)
        return await self._run(self._make, password, known)

    async def verify(self, password_hash: str | None, password: str) -> bool:
        """Whether it is right; None, of an account that is not there, is never, and takes as long. Raises Refusal."""
        return await self._run(self._verify, password_hash, password)

    def outdated(self, password_hash: str) -> bool:
        """Whether it was made with less care than is taken now."""
        return self._hasher.check_needs_rehash(password_hash)

    async def _run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._waiting >= self._most:
            text = "too many logins and registrations wait for their turn"
            raise Refusal(Code.RESOURCE_EXHAUSTED, text, limit=f"{self._most} at once", retry_after_seconds=RETRY_AFTER)
        self._waiting += 1
        try:
            return await self._pool.run(work, *args, **kwargs)
        finally:
            self._waiting -= 1

    def _make(self, password: str, known: Collection[str]) -> str:
        check_strength(password, known)
        return self._hasher.hash(password)

    def _verify(self, password_hash: str | None, password: str) -> bool:
        if not self._nobodys:  # before it is known whether there is an account
            self._nobodys = self._hasher.hash(secrets.token_urlsafe())
        try:
            right = self._hasher.verify(password_hash or self._nobodys, password.encode("utf-8", "surrogatepass"))
        except (Argon2Error, InvalidHashError):
            return False
        return right and password_hash is not None
