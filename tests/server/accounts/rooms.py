"""Accounts for tests: the real service and directory over real records, hashing quickly and on the caller's thread.

accounts = Rooms(opened_records, clock)
await accounts.service.register("ada", "ada@example.org", PASSWORD, address="127.0.0.1")
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from argon2 import PasswordHasher
from sqlalchemy import URL

from server.accounts.access_tokens import AccessTokens
from server.accounts.directory import Directory
from server.accounts.passwords import Passwords
from server.accounts.records import AccountRecords
from server.accounts.service import AccountParts, AccountService, Gate, open_gate
from server.database.accounts import SqlAccounts
from server.database.engines import reading_engine, writing_engine
from server.database.reading import Reader
from server.database.writing import GroupWriter
from server.identity import Identities
from server.interfaces import Pool
from server.pools import InlinePool
from server.principal import Principal, Role
from tests.server.house import TOKENS, House

PASSWORD = "correct-horse-battery-staple"
OTHER_PASSWORD = "a-wholly-different-sentence"
SECRET = b"a server's secret of more than 32 bytes"
HERE = "127.0.0.1"


class CountingHasher(PasswordHasher):
    """Cheap, and counts what is verified."""

    def __init__(self) -> None:
        super().__init__(time_cost=1, memory_cost=8, parallelism=1)
        self.verified = 0

    def verify(self, hash: Any, password: Any) -> Any:  # noqa: A002
        """As its parent does."""
        self.verified += 1
        return super().verify(hash, password)


class Rooms:
    """Every part by its name."""

    def __init__(
        self,
        records: AccountRecords,
        clock: Any,
        *,
        pool: Pool | None = None,
        most_waiting: int = 8,
        max_keys: int = 3,
        gate: Gate = open_gate,
    ) -> None:
        self.records = records
        self.clock = clock
        self.hasher = CountingHasher()
        self.passwords = Passwords(self.hasher, pool or InlinePool(), most_waiting)
        self.tokens = AccessTokens(clock, issuer="test", seconds=3600)
        self.tokens.sign_with([SECRET])
        self.directory = Directory(records, self.tokens, clock, seconds=10.0)
        self.service = AccountService(
            AccountParts(
                records=records,
                directory=self.directory,
                passwords=self.passwords,
                tokens=self.tokens,
                clock=clock,
                owners={"shop"},
                max_keys=max_keys,
                gate=gate,
            )
        )

    async def user(self, username: str, role: Role = Role.USER) -> str:
        """An account, and an access token of it."""
        await self.service.register(username, f"{username}@example.org", PASSWORD, address=HERE, role=role)
        return await self.service.log_in(username, PASSWORD, address=HERE)

    async def principal(self, username: str, role: Role = Role.USER) -> Principal:
        """A new account's, logged in."""
        return await self.directory.principal(await self.user(username, role))


class MemoryPublished:
    """A `Published`, for jobs that are in no database."""

    def __init__(self) -> None:
        self.jobs: set[str] = set()

    async def is_public(self, job_id: str) -> bool:
        """Whether a job's are."""
        return job_id in self.jobs

    async def set_public(self, job_id: str, public: bool, *, at: float) -> None:
        """From now on, or no more."""
        (self.jobs.add if public else self.jobs.discard)(job_id)


class AccountsHouse(House):
    """A server of fakes with real accounts, beside the tokens of its settings. Use `accounts_house`."""

    rooms: Rooms
    published: MemoryPublished


@contextmanager
def accounts_house(url: URL, **given: Any) -> Iterator[AccountsHouse]:
    """Over records that are up to date."""
    writing, reading = writing_engine(url, 5.0), reading_engine(url, 5.0, 1)
    pool = InlinePool()
    writer, reader = GroupWriter(writing, pool), Reader(reading, pool)
    house = AccountsHouse(**given)
    house.rooms = Rooms(SqlAccounts(writer, reader), house.clock, max_keys=20)
    house.published = MemoryPublished()
    house.identities = Identities(TOKENS, house.rooms.directory)
    try:
        yield house
    finally:
        writing.dispose()
        reading.dispose()
