"""Whose a key or an access token is: asked of the records once in a while, and remembered between.

What was found holds for some seconds, also that there is nothing: a flood of wrong keys asks the records once for each. What this
process changes of an account it forgets here at once; other nodes notice within those seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from dataclasses import dataclass

from server.accounts import access_tokens, api_keys
from server.accounts.access_tokens import AccessTokens
from server.accounts.records import AccountRecords, ApiKey, User
from server.clock import Clock
from server.errors import Code, Refusal
from server.identity import unknown_token
from server.principal import EVERYDAY, Principal, Role, Scope

MOST = 10_000  # credentials that are remembered, about 1 kB each
USED_EVERY = 60.0  # seconds between two records of when a key was used


@dataclass(frozen=True, slots=True)
class _Found:
    """`principal` is None where the credential is nobody's."""

    principal: Principal | None
    until: float


class Directory:
    """A `server.identity.Accounts`. What is found holds for `seconds`."""

    def __init__(
        self, records: AccountRecords, tokens: AccessTokens, clock: Clock, *, seconds: float, most: int = MOST
    ) -> None:
        self._records = records
        self._tokens = tokens
        self._clock = clock
        self._seconds = seconds
        self._most = most
        self._found: OrderedDict[bytes, _Found] = OrderedDict()
        self._asked: dict[bytes, asyncio.Future[Principal | None]] = {}
        self._changes = 0  # of accounts here: what was asked before one is not remembered
        self._used: dict[str, float] = {}

    def knows(self, credential: str) -> bool:
        """Whether it has the form of a key or an access token."""
        return api_keys.looks_like_one(credential) or access_tokens.looks_like_one(credential)

    def known(self, credential: str) -> Principal | None:
        """Whose it is, where that is remembered. Raises Refusal (UNAUTHENTICATED)."""
        found = self._found.get(_digest(credential))
        now = self._clock.seconds()
        if found is None or found.until <= now:
            return None
        if found.principal is None:
            raise unknown_token()
        if found.principal.key_id:
            self._used[found.principal.key_id] = now
        return found.principal

    async def principal(self, credential: str) -> Principal:
        """Whose it is. Raises Refusal (UNAUTHENTICATED, UNAVAILABLE)."""
        found = self.known(credential)
        if found is not None:
            return found
        digest = _digest(credential)
        if digest not in self._asked:
            self._asked[digest] = asyncio.ensure_future(self._ask(credential, digest))
            self._asked[digest].add_done_callback(lambda done: self._answered(digest, done))
        asked = await asyncio.shield(self._asked[digest])
        if asked is None:
            raise unknown_token()
        return asked

    def fresh(self, principal: Principal) -> bool:
        """Whether what was said of it still holds."""
        found = self._found.get(principal.credential)
        return found is not None and found.principal is principal and found.until > self._clock.seconds()

    def forget(self, user_id: str) -> None:
        """An account has changed: what is remembered of it holds no more."""
        self._changes += 1
        for digest, found in tuple(self._found.items()):
            if found.principal is not None and found.principal.user_id == user_id:
                del self._found[digest]

    async def record_use(self) -> None:
        """Write down when keys were used since the last time. Raises RecordsUnavailable."""
        used, self._used = self._used, {}
        if used:
            await self._records.used(used)

    async def _ask(self, credential: str, digest: bytes) -> Principal | None:
        while True:
            changes = self._changes
            try:
                principal = await self._look_up(credential, digest)
            except Refusal as refusal:
                if refusal.code is not Code.UNAUTHENTICATED:
                    raise
                principal = None
            if changes == self._changes:
                break
        now = self._clock.seconds()
        self._found[digest] = _Found(principal, principal.good_until if principal else now + self._seconds)
        self._found.move_to_end(digest)
        while len(self._found) > self._most:
            self._found.popitem(last=False)
        if principal is not None and principal.key_id:
            self._used[principal.key_id] = now
        return principal

    def _answered(self, digest: bytes, done: asyncio.Future[Principal | None]) -> None:
        self._asked.pop(digest, None)
        if not done.cancelled():
            done.exception()  # whoever waited has it

    async def _look_up(self, credential: str, digest: bytes) -> Principal:
        until = self._clock.seconds() + self._seconds
        if api_keys.looks_like_one(credential):
            found = await self._records.key(api_keys.digest_of(credential)) if api_keys.is_whole(credential) else None
            if found is None:
                raise unknown_token()
            return _by_key(*found, until, digest, self._clock.seconds())
        claims = self._tokens.read(credential)
        user = await self._records.user(user_id=claims.user_id)
        if user is None or not user.is_active or claims.issued_at < user.not_before:
            raise unknown_token()
        return Principal(
            owner=user.username,
            roles=_roles(user),
            scopes=_scopes(user),
            user_id=user.id,
            good_until=min(until, claims.expires_at),
            credential=digest,
        )


def _by_key(key: ApiKey, user: User, until: float, digest: bytes, now: float) -> Principal:
    if not key.holds(now) or not user.is_active:
        raise unknown_token()
    return Principal(
        owner=user.username,
        roles=_roles(user),
        scopes=key.scopes & _scopes(user),
        key_id=key.id,
        user_id=user.id,
        good_until=until if key.expires_at is None else min(until, key.expires_at),
        credential=digest,
    )


def _roles(user: User) -> frozenset[Role]:
    return frozenset({Role.USER, user.role})


def _scopes(user: User) -> frozenset[Scope]:
    return EVERYDAY | {Scope.ADMIN, Scope.SETTINGS} if user.role is Role.ADMIN else EVERYDAY


def _digest(credential: str) -> bytes:
    return hashlib.sha256(credential.encode("utf-8", "surrogatepass")).digest()
