"""Whose a credential is: remembered for a while, forgotten at once where this process changed it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from server.accounts import api_keys
from server.accounts.records import Act, Change
from server.errors import Code, RecordsUnavailable, Refusal
from server.principal import EVERYDAY, Principal, Role, Scope
from tests.server.accounts.rooms import HERE, OTHER_PASSWORD, PASSWORD, Rooms


async def refused(rooms: Rooms, credential: str) -> None:
    """UNAUTHENTICATED."""
    with pytest.raises(Refusal) as caught:
        await rooms.directory.principal(credential)
    assert caught.value.code is Code.UNAUTHENTICATED


async def a_key(rooms: Rooms, who: Principal, *scopes: Scope, seconds: float | None = None) -> str:
    """Of somebody's."""
    return (await rooms.service.create_key(who, "shop", scopes or EVERYDAY, seconds, address=HERE))[1]


class Counting:
    """Records that count what they are asked, and may be away."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.asked = 0
        self.away = False

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            self.asked += 1
            if self.away:
                raise RecordsUnavailable("gone")
            return await getattr(self._records, name)(*args, **kwargs)

        return call


async def test_a_user_and_a_key_of_theirs_are_one_owner(rooms: Rooms) -> None:
    """The key does what its scopes say."""
    ada = await rooms.principal("ada")
    assert ada == Principal(owner="ada", user_id=ada.user_id)
    reader = await rooms.directory.principal(await a_key(rooms, ada, Scope.READ))
    assert (reader.owner, reader.user_id, reader.scopes) == ("ada", ada.user_id, frozenset({Scope.READ}))
    assert reader.key_id


async def test_the_records_are_asked_once_for_many_requests(rooms: Rooms) -> None:
    """Also where they come at once; again when some seconds have passed. A wrong key is remembered too."""
    key = await a_key(rooms, await rooms.principal("ada"))
    wrong = api_keys.new_key()
    rooms.directory._records = counting = Counting(rooms.records)
    found = await asyncio.gather(*(rooms.directory.principal(key) for _ in range(20)))
    assert len(set(map(id, found))) == 1
    for _ in range(3):
        await refused(rooms, wrong)
    assert rooms.directory.known(key) is found[0]
    assert counting.asked == 2
    rooms.clock.advance(9.9)
    assert rooms.directory.fresh(found[0])
    rooms.clock.advance(0.2)
    assert not rooms.directory.fresh(found[0])
    assert rooms.directory.known(key) is None
    await rooms.directory.principal(key)
    assert counting.asked == 3


@pytest.mark.parametrize(
    "text", ["atl_", "atl_short", "atl_" + "x" * 42 + "!", "atl_" + "x" * 44, "eyJ.eyJ.", "atl_\0"]
)
async def test_what_can_be_no_credential_asks_nobody(rooms: Rooms, text: str) -> None:
    """Its form says so already."""
    rooms.directory._records = counting = Counting(rooms.records)
    await refused(rooms, text)
    assert counting.asked == 0


async def test_a_key_ends_when_it_is_revoked_or_its_time_is_over(rooms: Rooms) -> None:
    """At once, and to the second; its owner's other ones go on."""
    ada = await rooms.principal("ada")
    short, long = await a_key(rooms, ada, seconds=5.0), await a_key(rooms, ada)
    principal = await rooms.directory.principal(long)
    await rooms.directory.principal(short)
    rooms.clock.advance(5.0)
    await refused(rooms, short)
    await rooms.service.revoke_key(ada, principal.key_id, address=HERE)
    assert not rooms.directory.fresh(principal)
    await refused(rooms, long)


async def test_whoever_is_shut_out_is_out_with_every_credential(rooms: Rooms) -> None:
    """And stays so with the tokens of before, when they are let in again; keys hold again."""
    token = await rooms.user("ada")
    ada = await rooms.directory.principal(token)
    key = await a_key(rooms, ada)
    root = await rooms.principal("grace", Role.ADMIN)
    rooms.clock.advance(1.0)
    await rooms.service.set_user(root, "ada", role=None, is_active=False, address=HERE)
    for credential in (token, key):
        await refused(rooms, credential)
    with pytest.raises(Refusal, match="wrong"):
        await rooms.service.log_in("ada", PASSWORD, address=HERE)
    await rooms.service.set_user(root, "ada", role=None, is_active=True, address=HERE)
    rooms.clock.advance(11.0)
    await refused(rooms, token)
    assert (await rooms.directory.principal(key)).owner == "ada"


async def test_a_new_password_ends_the_tokens_of_before(rooms: Rooms) -> None:
    """Of that account alone."""
    token, other = await rooms.user("ada"), await rooms.user("bob")
    ada = await rooms.directory.principal(token)
    rooms.clock.advance(1.0)
    await rooms.service.change_password(ada, PASSWORD, OTHER_PASSWORD, address=HERE)
    await refused(rooms, token)
    assert (await rooms.directory.principal(other)).owner == "bob"
    again = await rooms.service.log_in("ada", OTHER_PASSWORD, address=HERE)
    assert (await rooms.directory.principal(again)).owner == "ada"


async def test_another_node_s_change_is_noticed_within_the_cache_s_seconds(rooms: Rooms) -> None:
    """What this process did not do, nobody tells it."""
    token = await rooms.user("ada")
    ada = await rooms.directory.principal(token)
    shut = Change(is_active=False, not_before=rooms.clock.seconds() + 1)
    await rooms.records.change_user(ada.user_id, shut, Act(at=0.0, who="elsewhere", action="user.change"))
    assert (await rooms.directory.principal(token)).owner == "ada"
    rooms.clock.advance(10.1)
    await refused(rooms, token)


async def test_records_that_are_away_say_so_and_nothing_is_remembered_of_it(rooms: Rooms) -> None:
    """UNAVAILABLE is not UNAUTHENTICATED: nobody is logged out by it."""
    token = await rooms.user("ada")
    rooms.directory._records = counting = Counting(rooms.records)
    counting.away = True
    with pytest.raises(RecordsUnavailable):
        await rooms.directory.principal(token)
    counting.away = False
    assert (await rooms.directory.principal(token)).owner == "ada"


async def test_a_change_while_the_records_are_asked_is_not_overlooked(rooms: Rooms) -> None:
    """What was read before it is read again."""
    ada = await rooms.principal("ada")
    key = await a_key(rooms, ada)
    inner, root = rooms.records, await rooms.principal("grace", Role.ADMIN)

    class Slow(Counting):
        async def key(self, digest: str) -> Any:
            """Answers with what was so before a change."""
            found = await inner.key(digest)
            if not self.asked:
                self.asked += 1
                await rooms.service.set_user(root, "ada", role=None, is_active=False, address=HERE)
            return found

    rooms.directory._records = Slow(inner)
    await refused(rooms, key)


async def test_when_a_key_was_used_is_written_down_now_and_then(rooms: Rooms) -> None:
    """One statement for all keys, and none where none was used."""
    ada = await rooms.principal("ada")
    key = await a_key(rooms, ada)
    for _ in range(3):
        await rooms.directory.principal(key)
        rooms.clock.advance(1.0)
    rooms.directory._records = counting = Counting(rooms.records)
    for _ in range(2):
        await rooms.directory.record_use()
    assert counting.asked == 1
    [kept] = await rooms.service.keys(ada)
    assert kept.last_used_at == rooms.clock.seconds() - 1.0


async def test_so_many_credentials_are_remembered_and_no_more(rooms: Rooms) -> None:
    """A flood of wrong ones fills no memory."""
    rooms.directory._most = 5
    for _ in range(20):
        await refused(rooms, api_keys.new_key())
    assert len(rooms.directory._found) == 5
