"""Passwords: hashed aside, with a bound on who waits, and unknown accounts that cost as much as known ones."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import pytest

from server.accounts.passwords import Passwords
from server.errors import Code, Refusal
from server.pools import InlinePool
from tests.server.accounts.rooms import PASSWORD, CountingHasher

P = ParamSpec("P")
T = TypeVar("T")


class HeldPool:
    """Works when it is let go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Wait, then work."""
        await self.go.wait()
        return work(*args, **kwargs)


async def test_a_password_is_right_or_it_is_not() -> None:
    """By its hash alone, which does not hold it."""
    passwords = Passwords(CountingHasher(), InlinePool(), 4)
    kept = await passwords.hashed(PASSWORD, ("ada",))
    assert kept.startswith("$argon2id$")
    assert PASSWORD not in kept
    assert await passwords.verify(kept, PASSWORD)
    for wrong in ("", PASSWORD + " ", PASSWORD.upper(), "\ud800", "x" * 1000):
        assert not await passwords.verify(kept, wrong)
    assert not await passwords.verify("no hash at all", PASSWORD)


async def test_an_account_that_is_not_there_costs_one_verification_like_any_other() -> None:
    """So that time does not tell who has an account."""
    hasher = CountingHasher()
    passwords = Passwords(hasher, InlinePool(), 4)
    kept = await passwords.hashed(PASSWORD, ("ada",))
    for given in (kept, None):
        before = hasher.verified
        assert await passwords.verify(given, PASSWORD) is (given is kept)
        assert hasher.verified == before + 1


async def test_who_would_wait_too_long_is_refused_at_once() -> None:
    """And has a place again when somebody is done, whatever came of it."""
    pool = HeldPool()
    passwords = Passwords(CountingHasher(), pool, 2)
    waiting: list[asyncio.Task[Any]] = [
        asyncio.ensure_future(passwords.verify(None, PASSWORD)),
        asyncio.ensure_future(passwords.hashed("password", ("ada",))),  # refused in its turn: weak
    ]
    await asyncio.sleep(0)
    with pytest.raises(Refusal) as caught:
        await passwords.verify(None, PASSWORD)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.retry_after_seconds > 0
    pool.go.set()
    done = await asyncio.gather(*waiting, return_exceptions=True)
    assert (done[0], type(done[1])) == (False, Refusal)
    assert not await passwords.verify(None, PASSWORD)
