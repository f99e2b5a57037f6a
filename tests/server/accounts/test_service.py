"""What can be done with accounts and keys, by whom, and what is written down of it."""

from __future__ import annotations

import pytest

from server.accounts import api_keys
from server.accounts.service import Taken
from server.errors import Code, Refusal
from server.principal import EVERYDAY, Principal, Role, Scope
from tests.server.accounts.rooms import HERE, PASSWORD, Rooms


async def acts(rooms: Rooms) -> list[tuple[str, str, str]]:
    """Who did what to whom, the oldest first."""
    found = await rooms.records.acts(before=0, most=100, who="")
    return [(act.who, act.action, act.target) for _, act in reversed(found)]


async def test_names_and_addresses_are_one_s_own_in_whichever_case(rooms: Rooms) -> None:
    """The refusal says which is taken."""
    await rooms.user("Ada")
    for username, email, field in (("ADA", "x@example.org", "username"), ("bob", "ADA@example.ORG", "email")):
        with pytest.raises(Taken) as caught:
            await rooms.service.register(username, email, PASSWORD, address=HERE)
        assert caught.value.field == field
    assert await rooms.service.log_in("ADA", PASSWORD, address=HERE)


@pytest.mark.parametrize("name", ["ada", "nobody-here", "no\0body", "별"])
async def test_a_wrong_login_is_the_same_whether_there_is_an_account(rooms: Rooms, name: str) -> None:
    """One verification and one text for all; each is written down, with its address."""
    await rooms.user("ada")
    before = rooms.hasher.verified
    with pytest.raises(Refusal) as caught:
        await rooms.service.log_in(name, "not the password", address="203.0.113.9")
    assert (caught.value.code, caught.value.message) == (
        Code.UNAUTHENTICATED,
        "the username or the password is wrong",
    )
    assert rooms.hasher.verified == before + 1
    [(_, act), *_] = await rooms.records.acts(before=0, most=1, who="")
    assert (act.action, act.address) == ("user.refused", "203.0.113.9")


async def test_the_gate_comes_before_a_password_is_looked_at(rooms: Rooms) -> None:
    """Limits of logins cost no hashing; a name's case does not get around them."""
    asked: list[tuple[str, str]] = []

    async def shut(username: str, address: str) -> None:
        asked.append((username, address))
        raise Refusal(Code.RESOURCE_EXHAUSTED, "too many", retry_after_seconds=60.0)

    shut_rooms = Rooms(rooms.records, rooms.clock, gate=shut)
    for attempt in (
        shut_rooms.service.log_in("ADA", PASSWORD, address=HERE),
        shut_rooms.service.register("bob", "bob@example.org", PASSWORD, address=HERE),
    ):
        with pytest.raises(Refusal, match="too many"):
            await attempt
    assert asked == [("ada", HERE), ("", HERE)]
    assert shut_rooms.hasher.verified == 0


async def test_a_key_is_shown_once_and_kept_as_a_digest(rooms: Rooms) -> None:
    """Lists have its first characters."""
    ada = await rooms.principal("ada")
    key, secret = await rooms.service.create_key(ada, "the shop's server", {Scope.GENERATE}, None, address=HERE)
    assert api_keys.is_whole(secret)
    [listed] = await rooms.service.keys(ada)
    assert listed == key
    assert listed.hint == secret[:8]
    assert secret not in repr(listed) + repr(vars(rooms.directory))
    assert listed.digest == api_keys.digest_of(secret)


async def test_a_key_can_do_no_more_than_who_makes_it(rooms: Rooms) -> None:
    """Nor can it be for nothing, for ever too many, or for less than a second."""
    ada = await rooms.principal("ada")
    for scopes, seconds, field in (({Scope.ADMIN}, None, ""), (set[Scope](), None, "scopes"), (EVERYDAY, 0.0, "expires_in"),
                                   (EVERYDAY, float("nan"), "expires_in"), (EVERYDAY, 1e12, "expires_in")):  # fmt: skip
        with pytest.raises(Refusal) as caught:
            await rooms.service.create_key(ada, "shop", scopes, seconds, address=HERE)
        assert caught.value.field == field
    for _ in range(3):
        key, _ = await rooms.service.create_key(ada, "shop", EVERYDAY, 60.0, address=HERE)
    with pytest.raises(Refusal) as caught:
        await rooms.service.create_key(ada, "shop", EVERYDAY, None, address=HERE)
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    await rooms.service.revoke_key(ada, key.id, address=HERE)
    await rooms.service.create_key(ada, "shop", EVERYDAY, None, address=HERE)


async def test_another_s_key_is_not_there(rooms: Rooms) -> None:
    """To revoke or to list; it goes on."""
    ada, bob = await rooms.principal("ada"), await rooms.principal("bob")
    key, secret = await rooms.service.create_key(ada, "shop", EVERYDAY, None, address=HERE)
    for key_id in (key.id, "none", "a\0b", "별"):
        with pytest.raises(Refusal, match="no such key"):
            await rooms.service.revoke_key(bob, key_id, address=HERE)
    assert await rooms.service.keys(bob) == []
    assert (await rooms.directory.principal(secret)).owner == "ada"


async def test_an_admin_s_key_is_no_admin_any_more_when_its_owner_is_none(rooms: Rooms) -> None:
    """What a key may do is also what its owner may do now."""
    grace, root = await rooms.principal("grace", Role.ADMIN), await rooms.principal("chief", Role.ADMIN)
    _, secret = await rooms.service.create_key(grace, "cron", {Scope.ADMIN}, None, address=HERE)
    assert (await rooms.directory.principal(secret)).is_admin
    await rooms.service.set_user(root, "grace", role=Role.USER, is_active=None, address=HERE)
    assert not (await rooms.directory.principal(secret)).is_admin


async def test_only_admins_look_after_others(rooms: Rooms) -> None:
    """And cannot shut themselves out."""
    ada, grace = await rooms.principal("ada"), await rooms.principal("grace", Role.ADMIN)
    for attempt in (
        rooms.service.users(ada, skip=0, most=10),
        rooms.service.acts(ada, before=0, most=10, who=""),
        rooms.service.set_user(ada, "grace", role=Role.USER, is_active=None, address=HERE),
    ):
        with pytest.raises(Refusal) as caught:
            await attempt
        assert caught.value.code is Code.PERMISSION_DENIED
    assert {user.username for user in await rooms.service.users(grace, skip=0, most=10)} == {"ada", "grace"}
    with pytest.raises(Refusal, match="themselves"):
        await rooms.service.set_user(grace, "Grace", role=None, is_active=False, address=HERE)
    with pytest.raises(Refusal, match="no such account"):
        await rooms.service.set_user(grace, "nobody", role=None, is_active=False, address=HERE)


async def test_those_without_an_account_have_neither_keys_nor_a_password(rooms: Rooms) -> None:
    """A token of the settings is no account."""
    shop = Principal(owner="shop")
    for attempt in (
        rooms.service.own(shop),
        rooms.service.keys(shop),
        rooms.service.create_key(shop, "x", EVERYDAY, None, address=HERE),
        rooms.service.change_password(shop, PASSWORD, PASSWORD, address=HERE),
    ):
        with pytest.raises(Refusal, match="accounts"):
            await attempt
    assert not await rooms.service.is_owner("shop")


async def test_what_is_changed_is_written_down_with_the_change(rooms: Rooms) -> None:
    """By whom, by which key, and from where."""
    ada = await rooms.principal("ada")
    grace = await rooms.principal("grace", Role.ADMIN)
    key, secret = await rooms.service.create_key(ada, "shop", {Scope.READ}, None, address="198.51.100.7")
    by_key = await rooms.directory.principal(secret)
    await rooms.service.revoke_key(by_key, key.id, address=HERE)
    await rooms.service.set_user(grace, "ada", role=Role.ADMIN, is_active=None, address=HERE)
    assert await acts(rooms) == [
        ("ada", "user.register", "ada"),
        ("grace", "user.register", "grace"),
        ("ada", "key.create", key.id),
        ("ada", "key.revoke", key.id),
        ("grace", "user.change", "ada"),
    ]
    log = [act for _, act in await rooms.service.acts(grace, before=0, most=3, who="")]
    assert [act.detail for act in log] == ["role=admin", "", "read"]
    assert (log[1].key_id, log[2].address) == (key.id, "198.51.100.7")
    assert secret not in repr(log)
