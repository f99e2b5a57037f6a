"""What comes to the UDP door: taken, challenged, or dropped without a word."""

from __future__ import annotations

import pytest

from proto import atelier_udp_pb2 as udp
from server.principal import Principal
from server.wire.datagrams import HEADER, LARGEST, Direction, seal
from tests.server.doors.udp.site import Site, kinds
from tests.server.fakes import settle

PADDED = udp.Heartbeat(padding=bytes(16))


@pytest.mark.parametrize("size", [0, 1, 7, 8, 23, 24, LARGEST + 1, 1500, 8192])
async def test_what_is_too_short_or_too_long_is_dropped(size: int) -> None:
    """Without a word, also where it begins with a key's id."""
    site = Site()
    client = site.client()
    client.deliver((client.key.id.to_bytes(8, "big") + bytes(size))[:size])
    await settle()
    assert site.socket.sent == []
    assert site.counts.dropped == {"size": 1}


async def test_a_stranger_hears_nothing() -> None:
    """Whatever it says, however well it is signed with a key of its own; nor does who says key 0."""
    site = Site()
    client = site.client()
    for key_id in (client.key.id ^ 1, 0, 2**64 - 1):
        message = udp.ClientDatagram(sequence=1, heartbeat=PADDED)
        client.deliver(seal(message, Direction.CLIENT, key_id, bytes(32)))
    await settle()
    assert (site.socket.sent, site.counts.dropped) == ([], {"stranger": 3})


async def test_what_is_forged_is_dropped() -> None:
    """One bit of the tag or of the message is another, the key is another's, or the server's own words come back."""
    site = Site()
    client, other = await site.proved(), site.client(port=40_002)
    good = client.datagram(heartbeat=PADDED)
    for at in (8, 23, 24, len(good) - 1):
        client.deliver(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
    client.deliver(seal(udp.ClientDatagram(sequence=9), Direction.CLIENT, client.key.id, other.key.secret))
    client.deliver(seal(udp.ClientDatagram(sequence=9), Direction.SERVER, client.key.id, client.key.secret))
    client.deliver(good[:HEADER])
    assert client.heard() == []
    assert site.counts.dropped == {"forged": 6, "size": 1}
    client.deliver(good)
    assert kinds(client.heard()) == ["alive"]  # what was forged has used up no number


async def test_a_replay_is_dropped() -> None:
    """Wherever it comes from; what is older than the window too, and what was late alone is not."""
    site = Site()
    client = await site.proved()
    first, late = client.datagram(heartbeat=PADDED), client.datagram(heartbeat=PADDED)
    client.deliver(first)
    assert kinds(client.heard()) == ["alive"]
    client.deliver(first)
    site.door.datagramReceived(first, ("203.0.113.9", 5))
    client.deliver(client.datagram(sequence=0, heartbeat=PADDED))
    client.deliver(client.datagram(sequence=client.sequence + 1023, heartbeat=PADDED))
    client.deliver(late)
    assert kinds(client.heard()) == ["alive", "alive"]
    client.deliver(client.datagram(sequence=2**40, heartbeat=PADDED))
    client.deliver(client.datagram(sequence=2**40 - 1024, heartbeat=PADDED))
    assert kinds(client.heard()) == ["alive"]
    assert site.counts.dropped == {"replayed": 4}
    assert site.socket.sent == []


async def test_what_says_nothing_known_is_dropped() -> None:
    """Signed, but no message of this version, or none at all; its number is not used up."""
    site = Site()
    client = await site.proved()
    client.deliver(seal(udp.ClientDatagram(sequence=50), Direction.CLIENT, client.key.id, client.key.secret))
    broken = udp.ServerDatagram(answers=50, live_result=udp.LiveResult())
    client.deliver(seal(broken, Direction.CLIENT, client.key.id, client.key.secret))
    assert (client.heard(), site.counts.dropped["unknown"]) == ([], 2)
    client.deliver(client.datagram(sequence=50, heartbeat=PADDED))
    assert kinds(client.heard()) == ["alive"]


async def test_a_key_that_is_over_is_a_stranger_s() -> None:
    """Its client is told once, by the sweep; then there is silence."""
    site = Site()
    client = await site.proved()
    for _ in range(200):
        await site.pass_time(3.0)
        client.send(heartbeat=PADDED)
    (*_, last) = client.heard()
    assert (last.evicted.code_name, last.evicted.code) == ("UNAUTHENTICATED", 10004)
    client.send(heartbeat=PADDED)
    assert client.heard() == []
    assert site.counts.dropped["stranger"] >= 1
    assert len(site.keys) == 0


async def test_an_address_has_to_show_that_it_hears() -> None:
    """Nothing is done for it before: whoever has a key could name a victim's address as its own."""
    site = Site()
    job = await site.house.job()
    client = site.client()
    client.cookie = 1  # a guess
    answer = await client.subscribe(job_id=job.id)
    assert kinds([answer]) == ["challenge"]
    assert site.door.subscriptions == 0
    client.cookie = answer.challenge.cookie
    assert kinds([await client.subscribe(job_id=job.id)]) == ["subscribed"]
    client.cookie = 0  # once is enough
    assert kinds([await client.ask(heartbeat=udp.Heartbeat())]) == ["alive"]


async def test_a_cookie_is_good_at_its_own_address_for_its_own_key_and_for_a_minute_at_most() -> None:
    """Whatever else it is shown for, there is another challenge."""
    site = Site()
    client, other = site.client(), site.client(port=40_002)
    cookie = (await client.ask(heartbeat=PADDED)).challenge.cookie
    other.cookie = cookie
    assert kinds([await other.ask(heartbeat=PADDED)]) == ["challenge"]
    client.cookie, client.address = cookie, ("127.0.0.1", 40_003)
    assert kinds([await client.ask(heartbeat=PADDED)]) == ["challenge"]
    client.address = ("127.0.0.1", 40_001)
    site.clock.advance(61.0)
    assert kinds([await client.ask(heartbeat=PADDED)]) == ["challenge"]


async def test_an_unproved_address_is_never_sent_more_than_came_from_it() -> None:
    """Every answer that it can have is as long as its question or shorter; what is too short for a challenge has none."""
    site = Site(datagrams_per_second=1000)
    client = site.client()
    challenged = 0
    for padding in range(60):
        datagram = client.datagram(heartbeat=udp.Heartbeat(padding=bytes(padding)))
        client.deliver(datagram)
        answers = site.socket.take(client.address)
        assert sum(map(len, answers)) <= len(datagram)
        challenged += len(answers)
    assert 0 < challenged < 60
    assert site.counts.dropped["unproved"] == 60 - challenged
    client.cookie = 0
    assert len(client.datagram(subscribe=udp.Subscribe(job_id="x" * 32))) >= 40


async def test_a_client_that_moves_takes_its_subscriptions_with_it() -> None:
    """After a challenge; until then they go where they went."""
    site = Site()
    job = await site.house.job()
    client = await site.proved()
    await client.subscribe(job_id=job.id)
    old, client.address, client.cookie = client.address, ("198.51.100.7", 999), 0
    challenge = await client.ask(heartbeat=PADDED)
    site.house.painter.start(job.id)
    site.house.painter.step(job.id, 1)
    await settle()
    assert len(site.socket.take(old)) == 1
    client.cookie = challenge.challenge.cookie
    assert (await client.ask(heartbeat=PADDED)).alive.subscriptions == 1
    await site.pass_time(0.2)
    site.house.painter.step(job.id, 2)
    assert kinds(client.heard()) == ["job_progress"]
    assert site.socket.take(old) == []


async def test_who_says_too_much_is_not_heard() -> None:
    """In this second; in the next it is again."""
    site = Site(datagrams_per_second=10)
    client = await site.proved()
    for _ in range(30):
        client.send(heartbeat=udp.Heartbeat())
    assert len(client.heard()) == 8
    assert site.counts.dropped == {"too_many": 22}
    await site.pass_time(1.0)
    assert kinds([await client.ask(heartbeat=udp.Heartbeat())]) == ["alive"]


async def test_an_owner_has_its_number_of_keys_and_the_door_its_own() -> None:
    """RESOURCE_EXHAUSTED by ConnectUdp, and room again when they are over."""
    site = Site()
    keys = site.keys
    for _ in range(30):
        keys.issue(Principal(owner="ada"), "")
    for owner, limit in (("ada", "30 UDP keys of one owner"), ("bob", "")):
        if limit:
            with pytest.raises(Exception, match=limit):
                keys.issue(Principal(owner=owner), "")
    for _ in range(10):
        keys.issue(Principal(owner="bob"), "")
    with pytest.raises(Exception, match="40 UDP keys"):
        keys.issue(Principal(owner="eve"), "")
    site.clock.advance(601.0)
    assert keys.issue(Principal(owner="ada"), "").owner == "ada"
    assert len(keys) == 1


async def test_an_error_of_ours_costs_one_datagram() -> None:
    """It is logged, and the door goes on."""
    site = Site()
    client = await site.proved()
    site.parts.counts.messages = None  # type: ignore[assignment]
    client.send(heartbeat=PADDED)
    assert site.counts.dropped == {"broken": 1}
    assert client.heard() == []
