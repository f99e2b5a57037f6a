"""Live sessions by datagram, and how clients of the UDP door are kept and put out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import URL

from proto import atelier_udp_pb2 as udp
from server.errors import Code
from server.principal import EVERYDAY, Principal
from tests.server.accounts.rooms import HERE, accounts_house
from tests.server.doors.udp.site import Site, kinds
from tests.server.fakes import settle
from tests.server.house import BOB

PADDED = udp.Heartbeat(padding=bytes(16))


async def test_a_sensor_opens_sends_and_closes() -> None:
    """A frame is not answered; the rest is."""
    site = Site()
    sensor = await site.proved()
    opened = (await sensor.ask(open_live=udp.OpenLive(model="face", tag=7))).live_opened
    assert (opened.tag, opened.live_id, opened.model) == (7, "live-1", "face")
    assert (opened.input_count, opened.output_count, opened.tick_hz) == (2, 2, 30.0)
    sensor.send(live_frame=udp.LiveFrame(live_id="live-1", number=3, captured_us=5, values=[0.5, 1.0]))
    ((live_id, frame),) = site.live.frames
    assert (live_id, frame.number, frame.captured_us, list(frame.values)) == ("live-1", 3, 5, [0.5, 1.0])
    assert sensor.heard() == []
    ended = (await sensor.ask(close_live=udp.CloseLive(live_id="live-1"))).live_ended
    assert (ended.live_id, ended.code_name) == ("live-1", "OK")
    assert site.live.owners == {}


async def test_the_same_tag_is_the_same_session() -> None:
    """However often it is asked, and while it is opened; another tag is another, and so is the tag of one that has ended."""
    site = Site()
    sensor = await site.proved()
    for _ in range(3):
        sensor.send(open_live=udp.OpenLive(model="face", tag=1))
    await settle()
    await settle()
    assert kinds(sensor.heard()) == ["live_opened"]
    assert (await sensor.ask(open_live=udp.OpenLive(model="face", tag=1))).live_opened.live_id == "live-1"
    sensor.send(open_live=udp.OpenLive(model="face", tag=2))
    await settle()
    await settle()
    assert sensor.heard()[0].live_opened.live_id == "live-2"
    await sensor.ask(close_live=udp.CloseLive(live_id="live-1"))
    sensor.send(open_live=udp.OpenLive(model="face", tag=1))
    await settle()
    await settle()
    assert [one.live_opened.live_id for one in sensor.heard()] == ["live-3"]
    site.live.end("live-3", Code.LIVE_FAILED)
    sensor.send(open_live=udp.OpenLive(model="face", tag=1))
    await settle()
    await settle()
    assert [one.live_opened.live_id for one in sensor.heard()] == ["live-4"]


async def test_sessions_that_have_ended_by_themselves_are_forgotten() -> None:
    """However many a client opens, one after the other."""
    site = Site(datagrams_per_second=1000)
    sensor = await site.proved()
    for tag in range(40):
        sensor.send(open_live=udp.OpenLive(model="face", tag=tag))
        await settle()
        await settle()
        site.live.end(f"live-{tag + 1}", Code.LIVE_FAILED)
    (peer,) = site.door._room.peers()
    assert len(peer.sessions) <= 16


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [
        ({"open_live": udp.OpenLive(model="nobody's")}, "MODEL_NOT_FOUND", "model"),
        ({"open_live": udp.OpenLive()}, "INVALID_PARAMETER", "model"),
        ({"live_frame": udp.LiveFrame(live_id="live-1", values=[1.0])}, "INVALID_PARAMETER", "values"),
        ({"live_frame": udp.LiveFrame(live_id="live-9", values=[1.0, 2.0])}, "LIVE_NOT_FOUND", "live_id"),
        ({"close_live": udp.CloseLive(live_id="live-9")}, "LIVE_NOT_FOUND", "live_id"),
    ],
)
async def test_what_is_wrong_is_refused_by_its_field(message: dict[str, object], code: str, field: str) -> None:
    """As by TCP."""
    site = Site()
    sensor = await site.proved()
    await sensor.ask(open_live=udp.OpenLive(model="face", tag=1))
    sequence = sensor.send(**message)
    await settle()
    await settle()
    (answer,) = sensor.heard()
    assert (answer.answers, answer.refused.code_name, answer.refused.field) == (sequence, code, field)


async def test_another_s_session_takes_no_frame_and_is_not_closed() -> None:
    """Bob's datagrams are signed, and Ada's session is not there for him."""
    site = Site()
    ada, bob = await site.proved(), await site.proved(BOB, 40_002)
    await ada.ask(open_live=udp.OpenLive(model="face", tag=1))
    frame = udp.LiveFrame(live_id="live-1", values=[1.0, 2.0])
    assert (await bob.ask(live_frame=frame)).refused.code_name == "LIVE_NOT_FOUND"
    assert (await bob.ask(close_live=udp.CloseLive(live_id="live-1"))).refused.code_name == "LIVE_NOT_FOUND"
    assert (site.live.frames, site.live.owners) == ([], {"live-1": "ada"})


async def test_who_is_not_heard_of_is_put_out_and_its_sessions_end() -> None:
    """After three heartbeats; whatever it sends counts as one. Its key is good for another beginning."""
    site = Site()
    silent, alive = await site.proved(), await site.proved(port=40_002)
    await silent.ask(open_live=udp.OpenLive(model="face", tag=1))
    await silent.subscribe(live_id="live-1")
    job = await site.house.job()
    await alive.subscribe(job_id=job.id)
    for _ in range(5):
        await site.pass_time(4.0)
        alive.send(heartbeat=PADDED)
    heard = silent.heard()
    assert [one.evicted.code_name for one in heard if one.HasField("evicted")] == ["IDLE_TIMEOUT"]
    assert site.live.owners == {}
    assert (site.door.peers, site.door.subscriptions) == (1, 1)
    assert kinds(alive.heard()) == ["alive"] * 5
    assert site.counts.evicted == {"IDLE_TIMEOUT": 1}
    await silent.prove()


async def test_who_waits_for_a_model_to_load_is_not_put_out() -> None:
    """However long the server takes, and its silence counts from the answer on."""
    site = Site()
    sensor = await site.proved()
    site.live.loaded.clear()
    sensor.send(open_live=udp.OpenLive(model="face", tag=1))
    await site.pass_time(50.0)
    site.live.loaded.set()
    await site.pass_time(10.0)
    assert kinds(sensor.heard()) == ["live_opened"]
    await site.pass_time(10.0)
    assert [one.evicted.code_name for one in sensor.heard()] == ["IDLE_TIMEOUT"]


async def test_who_is_put_out_while_a_session_is_opened_has_none() -> None:
    """It is closed as soon as it is there."""
    site = Site()
    sensor = await site.proved()
    sensor.send(open_live=udp.OpenLive(model="face", tag=1))
    site.door.close()
    await settle()
    await settle()
    assert (site.live.opened, site.live.owners) == (1, {})


async def test_a_stop_tells_everyone() -> None:
    """UNAVAILABLE; nothing is said after it, and no timer is left."""
    site = Site()
    client = await site.proved()
    job = await site.house.job()
    await client.subscribe(job_id=job.id)
    site.door.close()
    site.door.stopProtocol()
    assert [one.evicted.code_name for one in client.heard()] == ["UNAVAILABLE"]
    assert site.clock.getDelayedCalls() == []


async def test_a_client_asks_for_so_much_at_once() -> None:
    """What is beyond is refused, and the rest is answered."""
    site = Site()
    client = await site.proved()
    jobs = [await site.house.job(owner="ada") for _ in range(8)]
    for number in range(12):
        client.send(subscribe=udp.Subscribe(job_id=jobs[number].id if number < 8 else f"none-{number}"))
    await settle()
    answers = client.heard()
    assert sorted(kinds(answers)) == ["refused"] * 4 + ["subscribed"] * 8
    assert {one.refused.code_name for one in answers if one.HasField("refused")} == {"RESOURCE_EXHAUSTED"}


async def test_a_key_that_is_revoked_is_out_at_once(sqlite_url: URL) -> None:
    """At its next word in this process, and within a second where it says none; its UDP key is good for nothing more."""
    with accounts_house(sqlite_url) as house:
        rooms, site = house.rooms, Site(house)
        ada = await rooms.directory.principal(await rooms.user("lovelace"))
        clients = []
        for name, port in (("game", 40_001), ("quiet", 40_002)):
            record, token = await rooms.service.create_key(ada, name, EVERYDAY, None, address=HERE)
            principal = await rooms.directory.principal(token)
            clients.append((await site.proved(principal=principal, port=port, token=token), record))
        house.clock.advance(11.0)  # what is remembered of them is old
        for client, _ in clients:
            assert kinds([await client.ask(heartbeat=PADDED)]) == ["alive"]
        for _, record in clients:
            await rooms.service.revoke_key(ada, record.id, address=HERE)
        (game, _), (quiet, _) = clients
        game.send(heartbeat=PADDED)
        await settle()
        await site.pass_time(1.0)
        for client in (game, quiet):
            assert [one.evicted.code_name for one in client.heard()] == ["UNAUTHENTICATED"]
            client.send(heartbeat=PADDED)
            assert client.heard() == []
        assert site.counts.dropped == {"stranger": 2}


async def test_what_a_key_opens_is_written_down() -> None:
    """As on the other doors: who, what, and from where."""
    site = Site()
    principal = replace(Principal(owner="ada"), key_id="k-1")
    sensor = await site.proved(principal=principal)
    await sensor.ask(open_live=udp.OpenLive(model="face", tag=1))
    sensor.send(live_frame=udp.LiveFrame(live_id="live-1", values=[1.0, 2.0]))
    await sensor.ask(close_live=udp.CloseLive(live_id="live-1"))
    assert site.notes == [
        ("k-1", "udp.open_live", "live-1", "127.0.0.1"),
        ("k-1", "udp.close_live", "live-1", "127.0.0.1"),
    ]
