"""The outbox, over SQLite and PostgreSQL: whose turn it is, who has a call, and what is known of it after."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import URL, func, select

from server.database.outbox import STALE_AFTER
from server.database.schema import outbox as table
from server.job import JobState
from server.webhook import CallState, Care, Channel, Claimed, OutboxCall, Settlement
from tests.server.database.contract import WAYS, a_job, brought_to
from tests.server.database.opened import Opened, opened
from tests.server.moving import move_job

HOST = "https://hooks.test:443"
HELD = 30.0  # seconds of a claim


@pytest.fixture
def nodes(url: URL) -> Iterator[tuple[Opened, Opened]]:
    """Two on one database."""
    with opened(url, "node-1") as one, opened(url, "node-2") as two:
        yield one, two


def a_call(name: str = "end", position: int = 9, job_id: str | None = "job-1", **changes: Any) -> OutboxCall:
    """A call of a job."""
    given = {
        "id": f"{job_id}-{name}",
        "job_id": job_id,
        "name": name,
        "channel": Channel.WEBHOOK,
        "payload": '{"body": "별"}',
        "position": position,
        "target": HOST,
        **changes,
    }
    return OutboxCall(**given)


def news(percent: int = 25, **changes: Any) -> OutboxCall:
    """A call about a job's progress."""
    return a_call(f"progress-{percent}", percent, **{"care": Care.FLEETING, **changes})


async def claim(node: Opened, at: float = 0.0, most: int = 100, others: int = 100, **room: int) -> list[Claimed]:
    """What a node gets to do."""
    given = {name.replace("_", "."): places for name, places in room.items()}
    return list(await node.outbox.claim(at=at, until=at + HELD, most=most, room=given, others=others))


async def names(node: Opened, at: float = 0.0) -> list[str]:
    """The names of the calls that a node gets to do."""
    return [one.call.name for one in await claim(node, at)]


async def add(node: Opened, *calls: OutboxCall, at: float = 0.0) -> None:
    """Keep calls."""
    await node.outbox.add(calls, at=at, durable=False)


def states(node: Opened) -> dict[str, str]:
    """Every call's state, by its name."""
    with node.reading.connect() as connection:
        return {row.name: row.state for row in connection.execute(select(table.c.name, table.c.state))}


def states_by_id(node: Opened) -> dict[str, str]:
    """The same, by its id."""
    with node.reading.connect() as connection:
        return {row.id: row.state for row in connection.execute(select(table.c.id, table.c.state))}


async def test_a_claimed_call_is_what_was_added(database: Opened) -> None:
    """With how often it is tried by now, and since when it waits."""
    call = news(care=Care.ONCE, job_id=None)
    await add(database, call, at=5.0)
    assert await claim(database, 7.0) == [Claimed(call, 1, 5.0)]
    assert states(database) == {"progress-25": "sending"}


async def test_a_call_comes_with_its_job_s_state_or_not_at_all(database: Opened) -> None:
    """Admission and transitions record it in their own transaction; one that is not recorded leaves no call."""
    await brought_to(database.store, JobState.PROCESSING, a_job())
    end = a_call()
    with pytest.raises(Exception, match="job-1"):
        await move_job(database.store, "job-1", JobState.QUEUED, fence=1, at=1.0, last_event=1, calls=[end])
    assert states(database) == {}
    await move_job(database.store, "job-1", JobState.FAILED, fence=1, at=1.0, last_event=1, calls=[end])
    await database.store.admit(a_job("job-2"), [a_call("start", job_id="job-2")])
    assert states(database) == {"end": "waiting", "start": "waiting"}


async def test_new_calls_ring_for_those_who_make_them(database: Opened) -> None:
    """Each channel's for its own, once they are recorded; what brings none rings for nobody."""
    heard: list[str] = []
    database.bell.wake(Channel.WEBHOOK, lambda: heard.append("webhook"))
    database.bell.wake(Channel.DISPATCH, lambda: heard.append("dispatch"))
    await database.store.admit(a_job(), [a_call("dispatch", channel=Channel.DISPATCH)])
    await add(database, a_call())
    for step in WAYS[JobState.FAILED]:
        await move_job(database.store, "job-1", step, fence=1, at=1.0, last_event=1)
    assert heard == ["dispatch", "webhook"]


async def test_one_call_of_a_name_and_one_of_an_id(database: Opened) -> None:
    """A job that begins again says nothing twice, and what another job has said of the same generation is not said again."""
    await add(database, a_call(payload="first"), a_call(payload="second"))
    await add(database, a_call(job_id="job-2", id="job-1-end"))
    assert [one.call.payload for one in await claim(database)] == ["first"]
    with database.reading.connect() as connection:
        assert connection.execute(select(func.count()).select_from(table)).scalar_one() == 1


async def test_a_job_s_calls_are_made_one_after_the_other(database: Opened) -> None:
    """In the order of their positions, whatever order they came in; other jobs' beside them."""
    await add(database, a_call("end", 9), a_call("start", 1), a_call("other", job_id="job-2"))
    first = await claim(database)
    assert sorted(one.call.name for one in first) == ["other", "start"]
    assert await names(database) == []
    started = next(one for one in first if one.call.name == "start")
    await database.outbox.settle(Settlement(started, CallState.DELIVERED), at=1.0)
    assert await names(database, 1.0) == ["end"]


async def test_a_call_that_waits_for_its_retry_holds_up_the_next(database: Opened) -> None:
    """Of its own job, until it has its outcome."""
    await add(database, a_call("start", 1), a_call("end", 9))
    [start] = await claim(database)
    await database.outbox.settle(Settlement(start, CallState.WAITING, "503", next_at=60.0), at=1.0)
    assert await names(database, 59.0) == []
    [again] = await claim(database, 60.0)
    assert (again.call.name, again.attempts) == ("start", 2)
    await database.outbox.settle(Settlement(again, CallState.DEAD, "503"), at=61.0)
    assert await names(database, 61.0) == ["end"]


async def test_news_that_can_be_told_in_time_are_told(database: Opened) -> None:
    """A receiver that keeps up hears every milestone, then the end."""
    await add(database, news(0), news(25), a_call("end", 99))
    told: list[str] = []
    while claimed := await claim(database, STALE_AFTER / 2):
        told += [one.call.name for one in claimed]
        await database.outbox.settle(Settlement(claimed[0], CallState.DELIVERED), at=STALE_AFTER / 2)
    assert told == ["progress-0", "progress-25", "end"]


async def test_stale_news_are_dropped_for_what_came_later(database: Opened) -> None:
    """The latest is told, and nothing that it has overtaken."""
    await add(database, news(0), news(25), news(50))
    assert await names(database, STALE_AFTER + 1) == ["progress-50"]
    assert states(database) == {"progress-0": "dropped", "progress-25": "dropped", "progress-50": "sending"}


async def test_news_that_were_refused_hold_up_nothing(database: Opened) -> None:
    """The end does not wait for their retry; without anything later they are tried again."""
    await add(database, news(25))
    [tried] = await claim(database)
    await database.outbox.settle(Settlement(tried, CallState.WAITING, "500", next_at=100.0), at=0.1)
    assert await names(database, 0.2) == []
    await add(database, a_call("end", 99), at=0.2)
    assert await names(database, 0.2) == ["end"]
    assert states(database)["progress-25"] == "dropped"


async def test_news_under_way_are_waited_for(database: Opened) -> None:
    """Or the end could overtake them on the way."""
    await add(database, news(25))
    [under_way] = await claim(database)
    await add(database, a_call("end", 99))
    assert await names(database, HELD - 1) == []
    await database.outbox.settle(Settlement(under_way, CallState.DELIVERED), at=HELD - 1)
    assert await names(database, HELD - 1) == ["end"]


async def test_two_nodes_never_have_the_same_call(nodes: tuple[Opened, Opened]) -> None:
    """Nor two calls of one job."""
    one, two = nodes
    await add(one, a_call("start", 1), a_call("end", 9), a_call("other", job_id="job-2"))
    assert [call.call.name for call in await claim(one, most=1)] == ["start"]
    assert await names(two) == ["other"]
    assert await names(one) == []


@pytest.mark.parametrize(
    ("care", "state", "again"),
    [(Care.REPEATED, "waiting", ["end"]), (Care.ONCE, "unknown", []), (Care.FLEETING, "dropped", [])],
)
async def test_a_claim_that_expires_means_that_nobody_knows(
    nodes: tuple[Opened, Opened], care: Care, state: str, again: list[str]
) -> None:
    """The node that made it was not heard of again: what may be repeated is, under its id; what may not be waits for a person."""
    one, two = nodes
    await add(one, a_call(care=care))
    await claim(one)
    assert await names(two, HELD) == []
    assert await names(two, HELD + 0.1) == again
    await two.outbox.begin(at=HELD + 0.2)
    assert states(one) == {"end": state}


async def test_a_node_that_starts_again_need_not_wait_for_its_own_claims(nodes: tuple[Opened, Opened]) -> None:
    """Its earlier life has ended; another node's claims are left alone."""
    one, two = nodes
    await add(one, a_call(care=Care.ONCE), a_call("end2", job_id="job-2"))
    assert len(await claim(one, most=1)) == 1
    assert len(await claim(two, most=1)) == 1
    await one.outbox.begin(at=1.0)
    assert sorted(states(one).values()) == ["sending", "unknown"]


async def test_a_late_word_counts_only_if_it_was_delivered(nodes: tuple[Opened, Opened]) -> None:
    """Whoever has lost a claim cannot take the call from its next holder, but what has arrived has arrived."""
    one, two = nodes
    await add(one, a_call())
    [lost] = await claim(one)
    [held] = await claim(two, HELD + 1)
    await one.outbox.settle(Settlement(lost, CallState.WAITING, "500", next_at=0.0), at=HELD + 2)
    assert states(one) == {"end": "sending"}
    await one.outbox.settle(Settlement(lost, CallState.DELIVERED), at=HELD + 3)
    await two.outbox.settle(Settlement(held, CallState.DEAD, "500"), at=HELD + 4)
    assert states(one) == {"end": "delivered"}


async def test_an_unknown_outcome_that_becomes_known_is_recorded(database: Opened) -> None:
    """The database was away when it should have been."""
    await add(database, a_call(care=Care.ONCE))
    [one] = await claim(database)
    await claim(database, HELD + 1)
    assert states(database) == {"end": "unknown"}
    await database.outbox.settle(Settlement(one, CallState.DELIVERED), at=HELD + 2)
    assert states(database) == {"end": "delivered"}


async def test_where_a_job_s_calls_end_nothing_more_is_told(database: Opened) -> None:
    """Neither what waits nor what is yet to come; other jobs' calls go on."""
    await add(database, a_call("start", 1), a_call("later", 5), a_call("other", job_id="job-2"))
    gone = next(one for one in await claim(database) if one.call.name == "start")
    await database.outbox.settle(Settlement(gone, CallState.DEAD, "410", ends_job=True), at=1.0)
    await add(database, a_call("end", 9), a_call("third", job_id="job-3"), at=2.0)
    assert await names(database, 2.0) == ["third"]
    assert states(database) == {
        "start": "dead", "later": "dead", "end": "dead", "other": "sending", "third": "sending",
    }  # fmt: skip


@pytest.mark.parametrize("told_by", ["job-1", None])
async def test_news_of_what_has_ended_by_another_job_are_not_told(database: Opened, told_by: str | None) -> None:
    """A backend's generation has one end: a second job's progress after it is dropped, a job's own before its end is told."""
    await add(database, news(25, id="generation-7-progress-25"), at=0.1)
    assert await names(database, 0.1) == ["progress-25"]
    await add(database, a_call(id="generation-7-end", job_id=told_by), at=0.2)
    late = [news(percent, id=f"generation-7-progress-{percent}", job_id="job-2") for percent in (50, 75)]
    other = news(50, id="generation-70-progress-50", job_id="job-3")
    await add(database, *late, other, at=0.3)
    assert "progress-50" in await names(database, 0.3)
    await claim(database, 0.4)
    found = states_by_id(database)
    assert found["generation-70-progress-50"] == "sending"
    assert [found[f"generation-7-progress-{percent}"] for percent in (50, 75)] == ["dropped", "dropped"]


async def test_each_target_has_places_of_its_own(database: Opened) -> None:
    """None has more than its room, and a crowd for one does not keep the others' first from their turn."""
    crowd = [a_call("end", job_id=f"crowd-{number}", target="crowd.test") for number in range(20)]
    few = [a_call("end", job_id=f"few-{number}", target=f"few{number}.test") for number in range(3)]
    await add(database, *crowd, at=0.0)
    await add(database, *few, at=1.0)
    first = await claim(database, 1.0, most=5, others=4)
    assert sorted(one.call.target for one in first) == ["crowd.test"] * 2 + ["few0.test", "few1.test", "few2.test"]
    assert [one.call.target for one in await claim(database, 1.0, others=4, crowd_test=1)] == ["crowd.test"]
    assert await claim(database, 1.0, others=4, crowd_test=0) == []
    assert len(await claim(database, 1.0, others=0, crowd_test=2)) == 2
    assert await claim(database, 1.0, others=0) == []


async def test_what_is_postponed_is_not_due_before(database: Opened) -> None:
    """All that waits for one target; what is due later anyway stays so, and other targets are not concerned."""
    await add(database, a_call(), a_call(job_id="job-2", target="other.test"), a_call(job_id="job-3"))
    later = await claim(database, most=1)
    await database.outbox.settle(Settlement(later[0], CallState.WAITING, "500", next_at=99.0), at=0.0)
    await database.outbox.postpone(HOST, until=50.0)
    assert [one.call.target for one in await claim(database, 49.0)] == ["other.test"]
    assert len(await claim(database, 50.0)) == 1
    assert len(await claim(database, 99.0)) >= 1


async def test_a_channel_s_calls_are_its_own(database: Opened) -> None:
    """Those of others are neither claimed nor counted."""
    await add(database, a_call("dispatch", channel=Channel.DISPATCH))
    assert await claim(database) == []
    assert set((await database.outbox.counts()).values()) == {0}


async def test_counts_are_of_what_is_not_over(database: Opened) -> None:
    """What waits, what is under way, and what a person should look at."""
    await add(database, *(a_call(job_id=f"job-{number}") for number in range(5)))
    ends = [CallState.DELIVERED, CallState.UNKNOWN, CallState.DEAD]
    for one, state in zip(await claim(database, most=4), ends, strict=False):
        await database.outbox.settle(Settlement(one, state, "why"), at=1.0)
    assert await database.outbox.counts() == {
        CallState.WAITING: 1, CallState.SENDING: 1, CallState.UNKNOWN: 1, CallState.DEAD: 1,
    }  # fmt: skip


async def test_what_is_settled_is_forgotten_in_time(database: Opened) -> None:
    """And what is not, never."""
    await add(database, a_call(), a_call(job_id="job-2"), a_call("wait", job_id="job-3"))
    first, second = await claim(database, most=2)
    await database.outbox.settle(Settlement(first, CallState.DELIVERED), at=10.0)
    await database.outbox.settle(Settlement(second, CallState.DEAD), at=20.0)
    await database.outbox.forget(settled_before=20.0)
    assert sorted(states(database).values()) == ["dead", "waiting"]


async def test_news_go_with_the_end_of_their_job_where_nobody_needs_them(database: Opened) -> None:
    """What was told, and what was dropped, but no other job's."""
    await add(database, news(25), news(50), news(75, job_id="job-2"), a_call("end", 99))
    told = await claim(database, STALE_AFTER + 1)
    assert sorted(one.call.name for one in told) == ["end", "progress-75"]
    for one in told:
        forget = one.call.name == "end"
        await database.outbox.settle(Settlement(one, CallState.DELIVERED, forget_news=forget), at=2.0)
    assert states(database) == {"end": "delivered", "progress-75": "delivered"}
