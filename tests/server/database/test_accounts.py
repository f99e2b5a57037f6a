"""Accounts, keys, the log and what is public, in both databases."""

from __future__ import annotations

import pytest

from server.accounts.records import Act, ApiKey, Change, User
from server.database.accounts import MOST_TEXT, SqlAccounts
from server.database.published import SqlPublished
from server.database.reading import Reader
from server.database.writing import GroupWriter
from server.job import JobState
from server.pools import InlinePool
from server.principal import Role, Scope
from tests.server.database.contract import a_job
from tests.server.database.opened import Opened
from tests.server.moving import move_job

ADA = User(id="u1", username="Ada", email="Ada@Example.org", password_hash="h1", created_at=1.0)
ACT = Act(at=1.0, who="ada", action="user.register")


@pytest.fixture
def accounts(database: Opened) -> SqlAccounts:
    """Nobody is there."""
    return SqlAccounts(GroupWriter(database.writing, InlinePool()), Reader(database.reading, InlinePool()))


def a_key(number: int, user_id: str = "u1", **changes: object) -> ApiKey:
    """One of Ada's."""
    given = {"name": "shop", "hint": "atl_abcd", "scopes": frozenset({Scope.READ, Scope.GENERATE}), **changes}
    return ApiKey(id=f"k{number}", user_id=user_id, digest=f"d{number}", created_at=float(number), **given)  # type: ignore[arg-type]


async def test_an_account_is_found_by_its_name_in_any_case_and_by_its_id(accounts: SqlAccounts) -> None:
    """As it was kept."""
    assert await accounts.add_user(ADA, ACT) == ""
    for found in (await accounts.user(username="aDA"), await accounts.user(user_id="u1")):
        assert found == ADA
    for missing in ("bob", "ad\0a", "\ud800", "별", "u1"):
        assert await accounts.user(username=missing) is None
    assert await accounts.user() is None


async def test_one_name_and_one_address_are_one_account(accounts: SqlAccounts) -> None:
    """Of two that come at once too: the database decides; the other is not kept, nor logged."""
    await accounts.add_user(ADA, ACT)
    other = {"id": "u2", "password_hash": "h2", "created_at": 2.0}
    assert await accounts.add_user(User(username="ADA", email="b@example.org", **other), ACT) == "username"  # type: ignore[arg-type]
    assert await accounts.add_user(User(username="bob", email="ada@example.ORG", **other), ACT) == "email"  # type: ignore[arg-type]
    assert len(await accounts.users(skip=0, most=10)) == 1
    assert len(await accounts.acts(before=0, most=10, who="")) == 1


async def test_an_account_is_changed_in_what_is_named_alone(accounts: SqlAccounts) -> None:
    """And the act is kept with it."""
    await accounts.add_user(ADA, ACT)
    changed = await accounts.change_user("u1", Change(role=Role.ADMIN), ACT)
    assert changed is not None
    assert (changed.role, changed.is_active, changed.password_hash) == (Role.ADMIN, True, "h1")
    shut = await accounts.change_user("u1", Change(is_active=False, not_before=7.5), ACT)
    assert shut is not None
    assert (shut.role, shut.is_active, shut.not_before) == (Role.ADMIN, False, 7.5)
    assert await accounts.change_user("none", Change(is_active=True), ACT) is None


async def test_keys_are_counted_while_they_are_in_use(accounts: SqlAccounts) -> None:
    """Those that were revoked or are over make room."""
    await accounts.add_user(ADA, ACT)
    assert await accounts.add_key(a_key(1, expires_at=2.5), ACT, most=2)
    assert await accounts.add_key(a_key(2), ACT, most=2)
    assert await accounts.add_key(a_key(3), ACT, most=2)
    assert not await accounts.add_key(a_key(4), ACT, most=2)
    assert not await accounts.revoke_key("u2", "k3", ACT)
    assert await accounts.revoke_key("u1", "k3", Act(at=9.0, who="ada", action="key.revoke"))
    assert await accounts.revoke_key("u1", "k3", Act(at=10.0, who="ada", action="key.revoke"))
    assert await accounts.add_key(a_key(4), ACT, most=2)
    kept = await accounts.keys("u1")
    assert [(key.id, key.revoked_at) for key in kept] == [("k4", None), ("k3", 9.0), ("k2", None), ("k1", None)]


async def test_a_key_is_found_by_its_digest_with_whose_it_is(accounts: SqlAccounts) -> None:
    """A later use stays, whoever writes an earlier one after it."""
    await accounts.add_user(ADA, ACT)
    await accounts.add_key(a_key(1), ACT, most=5)
    await accounts.add_key(a_key(2), ACT, most=5)
    assert await accounts.key("d1") == (a_key(1), ADA)
    assert await accounts.key("d9") is None
    for at in (5.0, 4.0):
        await accounts.used({"k1": at, "k2": 1.0, "none": 1.0})
    used = {key.id: key.last_used_at for key in await accounts.keys("u1")}
    assert used == {"k1": 5.0, "k2": 1.0}


async def test_the_log_is_read_from_the_newest_back_and_forgotten_by_age(accounts: SqlAccounts) -> None:
    """What callers wrote into it is made printable, and cut."""
    await accounts.note([Act(at=float(at), who=who, action="x") for at, who in ((1, "ada"), (2, "bob"), (3, "ada"))])
    first = await accounts.acts(before=0, most=2, who="")
    assert [act.at for _, act in first] == [3.0, 2.0]
    assert [act.at for _, act in await accounts.acts(before=first[-1][0], most=2, who="")] == [1.0]
    assert [act.at for _, act in await accounts.acts(before=0, most=9, who="ada")] == [3.0, 1.0]
    await accounts.forget_acts(before=3.0)
    await accounts.note([])
    await accounts.note([Act(at=4.0, who="a\0b", action="x", target="\ud800\n별" + "x" * 400)])
    [(_, odd), (_, left)] = await accounts.acts(before=0, most=9, who="")
    assert (left.at, odd.who, odd.target[:3], len(odd.target)) == (3.0, "a?b", "??별", MOST_TEXT)


async def test_what_is_public_can_be_taken_back_and_goes_with_its_job(database: Opened) -> None:
    """Saying it twice changes nothing."""
    published = SqlPublished(GroupWriter(database.writing, InlinePool()), Reader(database.reading, InlinePool()))
    await database.store.admit(a_job("job-1"))
    assert not await published.is_public("job-1")
    for public in (True, True, False, False, True):
        await published.set_public("job-1", public, at=1.0)
        assert await published.is_public("job-1") is public
    await move_job(database.store, "job-1", JobState.CANCELED, fence=1, at=2.0, last_event=1)
    await database.store.forget(["job-1"])
    assert not await published.is_public("job-1")
