"""What subscribers of the UDP door hear of jobs and of live sessions."""

from __future__ import annotations

import pytest

from proto import atelier_udp_pb2 as udp
from server.errors import Code
from server.principal import Principal, Scope
from server.wire.datagrams import HEADER, LARGEST, TO_ALL, read_server
from tests.server.doors.udp.site import NAMES, Client, Site, kinds
from tests.server.fakes import settle
from tests.server.house import BOB

FRAME = (0.25, 0.5)


async def opened(site: Site, client: Client, tag: int = 1) -> str:
    """A live session, opened by datagram."""
    answer = await client.ask(open_live=udp.OpenLive(model="face", tag=tag))
    return answer.live_opened.live_id


async def test_a_job_is_followed_to_its_end() -> None:
    """Progress, and one end that is said three times with the same sequence; then the subscription is over."""
    site = Site()
    job = await site.house.job(num_inference_steps=20)
    client = await site.proved()
    subscribed = (await client.subscribe(job_id=job.id)).subscribed
    assert (subscribed.job_id, subscribed.next_sequence, subscribed.subscriptions) == (job.id, 1, 1)
    site.house.painter.start(job.id)
    for step in range(1, 21):
        site.house.painter.step(job.id, step)
        await site.pass_time(0.11)
    site.house.painter.finish(job.id)
    await site.pass_time(5.0)
    heard = client.heard()
    progress, ends = [one.job_progress for one in heard[:-3]], [one.job_ended for one in heard[-3:]]
    steps = [one.step for one in progress]
    assert set(steps) >= set(range(1, 20))
    assert steps == sorted(steps)
    assert [one.sequence for one in progress] == list(range(1, len(progress) + 1))
    tenth = progress[steps.index(10)]
    assert (tenth.phase, tenth.total_steps, tenth.percent) == ("denoising", 20, 50.0)
    assert [(one.state, one.pictures, one.sequence) for one in ends] == [
        (udp.JobEnded.SUCCEEDED, 1, len(progress) + 1)
    ] * 3
    assert site.door.subscriptions == 0
    assert (await client.ask(heartbeat=udp.Heartbeat())).alive.subscriptions == 0


async def test_progress_is_told_ten_times_a_second_at_most_and_the_latest() -> None:
    """A hundred steps in a tenth of a second are two datagrams, the second of which has the last step."""
    site = Site()
    job = await site.house.job(num_inference_steps=50)
    client = await site.proved()
    await client.subscribe(job_id=job.id)
    site.house.painter.start(job.id)
    for step in range(1, 51):
        site.house.painter.step(job.id, step)
        await site.pass_time(0.001)
    await site.pass_time(0.2)
    heard = client.heard()
    assert len(heard) <= 3
    assert heard[-1].job_progress.step == 50
    assert heard[-1].job_progress.sequence == len(heard)


async def test_whoever_comes_late_hears_the_latest_at_once() -> None:
    """The progress of a job under way; the end of one that has ended."""
    site = Site()
    job = await site.house.job()
    early, late, last = [await site.proved(port=port) for port in (40_001, 40_002, 40_003)]
    await early.subscribe(job_id=job.id)
    site.house.painter.start(job.id)
    site.house.painter.step(job.id, 3)
    late.send(subscribe=udp.Subscribe(job_id=job.id))
    await settle()
    heard = late.heard()
    assert kinds(heard) == ["subscribed", "job_progress"]
    assert heard[0].subscribed.next_sequence == heard[1].job_progress.sequence
    site.house.painter.step(job.id, 4)
    site.house.painter.finish(job.id)
    await site.pass_time(10.0)
    last.send(subscribe=udp.Subscribe(job_id=job.id))
    await settle()
    assert [one.job_ended.state for one in last.heard() if one.HasField("job_ended")] == [udp.JobEnded.SUCCEEDED]


@pytest.mark.parametrize("how", ["failed", "canceled"])
async def test_every_end_is_told(how: str) -> None:
    """With the reason of a failure."""
    site = Site()
    job = await site.house.job()
    client = await site.proved()
    await client.subscribe(job_id=job.id)
    site.house.painter.start(job.id)
    if how == "failed":
        site.house.lifecycle.engine_died("the device fell off the bus " + "ü" * 400)
    else:
        site.house.lifecycle.cancel(job.id)
        site.house.painter.confirm_cancel(job.id)
    await settle()
    (ended,) = [one.job_ended for one in client.heard() if one.HasField("job_ended")]
    assert ended.state == getattr(udp.JobEnded, how.upper())
    assert (ended.code != 0) == (ended.code_name != "") == (ended.message != "") == (how == "failed")


@pytest.mark.parametrize(
    ("topic", "code", "field"),
    [
        ({"job_id": "job-1"}, "JOB_NOT_FOUND", "job_id"),
        ({"job_id": "job-999"}, "JOB_NOT_FOUND", "job_id"),
        ({"job_id": ""}, "JOB_NOT_FOUND", "job_id"),
        ({"live_id": "live-1"}, "LIVE_NOT_FOUND", "live_id"),
        ({"live_id": ""}, "LIVE_NOT_FOUND", "live_id"),
        ({}, "INVALID_PARAMETER", "topic"),
        ({"job_id": "j" * 1000}, "INVALID_PARAMETER", "job_id"),
    ],
)
async def test_another_s_topics_are_not_there(topic: dict[str, str], code: str, field: str) -> None:
    """Bob hears of Ada's what he hears of what is not there, while she follows it."""
    site = Site()
    job = await site.house.job()
    assert job.id == "job-1"
    ada, bob = await site.proved(), await site.proved(BOB, 40_002)
    assert await opened(site, ada) == "live-1"
    await ada.subscribe(live_id="live-1")
    await ada.subscribe(job_id=job.id)
    refused = (await bob.subscribe(**topic)).refused
    assert (refused.code_name, refused.field) == (code, field)
    assert refused.code == Code[code]
    assert site.counts.refusals == {code: 1}
    site.live.tick("live-1")
    assert bob.heard() == []


async def test_a_live_session_is_heard_by_all_of_its_subscribers_alike() -> None:
    """One datagram for all, to the byte; the names of its values come with the subscription."""
    site = Site()
    opener = await site.proved()
    live_id = await opened(site, opener)
    hearers = [await site.proved(port=41_000 + number) for number in range(5)]
    for hearer in hearers:
        sequence = hearer.send(subscribe=udp.Subscribe(live_id=live_id))
        await settle()
        subscribed, names = hearer.heard()
        assert (subscribed.answers, names.answers) == (sequence, sequence)
        assert subscribed.subscribed.live_id == live_id
        assert (list(names.names.names), names.names.total, names.names.first_index) == (list(NAMES), 2, 0)
    for _ in range(3):
        site.live.tick(live_id, FRAME)
        await site.pass_time(0.033)
    told = [site.socket.take(hearer.address) for hearer in hearers]
    assert all(one == told[0] for one in told)
    assert all(datagram.startswith(TO_ALL) for datagram in told[0])
    heard = [read_server(datagram) for datagram in told[0]]
    results = [one.live_result for one in heard if one is not None]
    assert [one.sequence for one in results] == [1, 2, 3]
    assert [(list(one.values), one.first_index, one.total, one.dropped) for one in results] == [
        (list(FRAME), 0, 2, 3)
    ] * 3
    assert results[0].tick_us == 1_000_000_001_000
    assert len(site.live.listeners[live_id]) == 1


@pytest.mark.parametrize("count", [0, 1, 256, 257, 1000])
async def test_values_that_do_not_fit_into_one_datagram_are_split(count: int) -> None:
    """Each piece says where it begins, and has a sequence of its own; names too come in pieces."""
    names = [f"expression_number_{index}_" + "é" * (index % 30) for index in range(count)]
    site = Site(outputs=names)
    client = await site.proved()
    live_id = await opened(site, client)
    client.send(subscribe=udp.Subscribe(live_id=live_id))
    await settle()
    told = [one.names for one in client.heard() if one.HasField("names")]
    assert [name for one in told for name in one.names] == names
    assert [one.first_index for one in told] == [sum(len(one.names) for one in told[:at]) for at in range(len(told))]
    values = [index / 1024 for index in range(count)]
    site.live.tick(live_id, values)
    site.live.tick(live_id, values)
    await site.pass_time(0.1)
    results = [one.live_result for one in client.heard()]
    pieces = max(1, -(-count // 256))
    assert [one.sequence for one in results] == list(range(1, 2 * pieces + 1))
    assert [value for one in results[:pieces] for value in one.values] == values
    assert {one.total for one in results} == {count}
    assert [one.first_index for one in results[:pieces]] == [256 * at for at in range(pieces)]


async def test_the_largest_result_fits() -> None:
    """With the largest numbers that it can have."""
    site = Site(outputs=["x"] * 256)
    client = await site.proved()
    live_id = await opened(site, client)
    await client.subscribe(live_id=live_id)
    topic = site.door._room.topic(("live_id", live_id), "ada")
    assert topic is not None
    topic.sequence = 2**64 - 2
    client.heard()
    site.live.sequence = 2**64 - 2
    site.live.tick(live_id, [1.5] * 256)
    (datagram,) = site.socket.take(client.address)
    assert HEADER + 1024 < len(datagram) <= LARGEST


async def test_a_session_s_end_is_told() -> None:
    """Three times, and the subscription is over with it."""
    site = Site()
    client = await site.proved()
    live_id = await opened(site, client)
    await client.subscribe(live_id=live_id)
    site.live.end(live_id, Code.LIVE_FAILED)
    await site.pass_time(4.0)
    ends = [one.live_ended for one in client.heard() if one.HasField("live_ended")]
    assert [(one.live_id, one.sequence, one.code_name) for one in ends] == [(live_id, 1, "LIVE_FAILED")] * 3
    assert site.door.subscriptions == 0
    assert (await client.subscribe(live_id=live_id)).refused.code_name == "LIVE_NOT_FOUND"


async def test_who_unsubscribes_hears_no_more() -> None:
    """And what nobody hears is followed no further."""
    site = Site()
    job = await site.house.job()
    client = await site.proved()
    live_id = await opened(site, client)
    await client.subscribe(live_id=live_id)
    await client.subscribe(job_id=job.id)
    for topic in ({"live_id": live_id}, {"job_id": job.id}):
        assert (await client.ask(unsubscribe=udp.Unsubscribe(**topic))).HasField("unsubscribed")  # type: ignore[arg-type]
    assert (await client.ask(unsubscribe=udp.Unsubscribe(job_id="never"))).HasField("unsubscribed")
    assert site.live.listeners[live_id] == []
    assert site.house.board._sheets[job.id].watchers == []
    site.live.tick(live_id)
    assert (client.heard(), site.door.subscriptions) == ([], 0)


async def test_to_subscribe_again_is_to_be_answered_again() -> None:
    """The answer may have been lost; it is one subscription."""
    site = Site()
    job = await site.house.job()
    client = await site.proved()
    for _ in range(3):
        assert (await client.subscribe(job_id=job.id)).subscribed.subscriptions == 1
    client.send(subscribe=udp.Subscribe(job_id=job.id))
    client.send(subscribe=udp.Subscribe(job_id=job.id))
    await settle()
    assert site.door.subscriptions == 1


async def test_two_who_come_at_once_hear_one_topic() -> None:
    """The job is followed once, whoever's look-up was faster."""
    site = Site()
    job = await site.house.job()
    first, second = await site.proved(), await site.proved(port=40_002)
    for client in (first, second):
        client.send(subscribe=udp.Subscribe(job_id=job.id))
    await settle()
    assert [kinds(client.heard()) for client in (first, second)] == [["subscribed"], ["subscribed"]]
    assert len(site.house.board._sheets[job.id].watchers) == 1


async def test_the_next_key_of_a_client_takes_over() -> None:
    """At the same address one key hears a topic: nothing is heard twice, and what the old one had is free."""
    site = Site()
    old = await site.proved()
    live_id = await opened(site, old)
    await old.subscribe(live_id=live_id)
    new = await site.proved()
    await new.subscribe(live_id=live_id)
    site.live.tick(live_id)
    assert len(site.socket.take(new.address)) == 1
    assert site.door.subscriptions == 1
    assert old.key is not new.key


async def test_subscriptions_have_limits_of_one_owner_and_in_all() -> None:
    """RESOURCE_EXHAUSTED, with the limit; what is given back can be had again."""
    site = Site(subscriptions_per_owner=2, subscriptions=3)
    jobs = [await site.house.job() for _ in range(3)]
    bobs = [await site.house.job(owner=BOB) for _ in range(2)]
    ada, bob = await site.proved(), await site.proved(BOB, 40_002)
    answers = [await ada.subscribe(job_id=job.id) for job in jobs]
    assert kinds(answers) == ["subscribed", "subscribed", "refused"]
    assert answers[2].refused.limit == "2 subscriptions of one owner"
    assert kinds([await bob.subscribe(job_id=job.id) for job in bobs]) == ["subscribed", "refused"]
    assert len(site.house.board._sheets[jobs[2].id].watchers) == 0
    await ada.ask(unsubscribe=udp.Unsubscribe(job_id=jobs[0].id))
    assert kinds([await bob.subscribe(job_id=bobs[1].id)]) == ["subscribed"]


async def test_a_credential_for_less_does_less() -> None:
    """One that may read hears, and opens nothing; one that may do neither hears nothing."""
    site = Site()
    job = await site.house.job()
    reader = await site.proved(principal=Principal(owner="ada", scopes=frozenset({Scope.READ})))
    assert kinds([await reader.subscribe(job_id=job.id)]) == ["subscribed"]
    assert (await reader.ask(open_live=udp.OpenLive(model="face"))).refused.code_name == "PERMISSION_DENIED"
    assert (await reader.ask(live_frame=udp.LiveFrame(live_id="x"))).refused.code_name == "PERMISSION_DENIED"
    assert (await reader.ask(close_live=udp.CloseLive(live_id="x"))).refused.code_name == "PERMISSION_DENIED"
    nobody = await site.proved(port=40_002, principal=Principal(owner="ada", scopes=frozenset()))
    assert (await nobody.subscribe(job_id=job.id)).refused.code_name == "PERMISSION_DENIED"


GROUP = ("239.192.7.1", 9100)


async def test_a_group_hears_what_an_owner_has_sent_there() -> None:
    """With the names once a second, for as long as somebody wants it; the owner's own address hears it only if it asks."""
    site = Site(group=GROUP)
    client = await site.proved()
    live_id = await opened(site, client)
    assert kinds([await client.subscribe(live_id=live_id, to_group=True)]) == ["subscribed"]
    client.heard()
    site.live.tick(live_id)
    await site.pass_time(1.0)
    heard = [read_server(datagram) for datagram in site.socket.take(GROUP)]
    assert [str(one.WhichOneof("message")) for one in heard if one] == ["live_result", "names"]
    assert client.heard() == []
    await client.subscribe(live_id=live_id)
    client.heard()
    site.live.tick(live_id)
    assert (len(site.socket.take(GROUP)), len(client.heard()), site.door.subscriptions) == (1, 1, 2)
    await client.ask(unsubscribe=udp.Unsubscribe(live_id=live_id, to_group=True))
    site.live.tick(live_id)
    await site.pass_time(1.0)
    assert (site.socket.take(GROUP), len(client.heard())) == ([], 1)


async def test_without_a_group_nothing_is_sent_to_one() -> None:
    """Refused, by its field."""
    site = Site()
    client = await site.proved()
    live_id = await opened(site, client)
    refused = (await client.subscribe(live_id=live_id, to_group=True)).refused
    assert (refused.code_name, refused.field) == ("INVALID_PARAMETER", "to_group")
