"""What a person sees of the outbox, and decides."""

from __future__ import annotations

from typing import Any

import pytest

from server.database.review import NOT_OVER, calls_in, make_again, take_as_delivered
from server.webhook import CallState, Channel, Settlement
from tests.server.database.opened import Opened
from tests.server.database.test_outbox import a_call, add, claim, names, states

WEBHOOK = Channel.WEBHOOK


async def given(database: Opened) -> None:
    """A call in each state, each of a job of its own."""
    ends = {"arrived": CallState.DELIVERED, "unsure": CallState.UNKNOWN, "given-up": CallState.DEAD}
    await add(database, *(a_call(name, job_id=name) for name in ends), a_call("sent", job_id="sent"))
    for one in await claim(database):
        if one.call.name in ends:
            await database.outbox.settle(Settlement(one, ends[one.call.name], "why"), at=1.0)
    await add(database, a_call("waits", job_id="waits"), at=5.0)


def decide(database: Opened, decision: Any, **which: Any) -> list[str]:
    """What a decision changed."""
    with database.writing.connect() as connection:
        done: list[str] = decision(connection, WEBHOOK, at=9.0, **which)
        connection.commit()
    return done


async def test_what_is_not_over_is_seen_the_oldest_first(database: Opened) -> None:
    """With its last answer; what was delivered is over."""
    await given(database)
    with database.reading.connect() as connection:
        kept = calls_in(connection, WEBHOOK, NOT_OVER, 10)
        assert [call.name for call in kept] == ["given-up", "sent", "unsure", "waits"]
        assert (kept[0].error, kept[0].attempts, kept[0].next_at) == ("why", 1, None)
        assert (kept[3].since, kept[3].next_at) == (5.0, 5.0)
        assert [call.name for call in calls_in(connection, WEBHOOK, {CallState.UNKNOWN}, 10)] == ["unsure"]
        assert len(calls_in(connection, WEBHOOK, NOT_OVER, 2)) == 2
        assert calls_in(connection, Channel.DISPATCH, NOT_OVER, 10) == []


@pytest.mark.parametrize(
    ("which", "done"),
    [
        ({"ids": ["unsure-unsure", "waits-waits"]}, ["unsure-unsure", "waits-waits"]),
        ({"states": {CallState.UNKNOWN}}, ["unsure-unsure"]),
        ({"states": {CallState.DEAD}, "ids": ["unsure-unsure"]}, ["given-up-given-up", "unsure-unsure"]),
        ({"ids": ["arrived-arrived", "sent-sent", "nobody"]}, []),
    ],
)
async def test_calls_are_made_again_when_somebody_says_so(database: Opened, which: Any, done: list[str]) -> None:
    """At once, with all their tries before them; not what has arrived, nor what is under way."""
    await given(database)
    assert decide(database, make_again, **which) == done
    again = {one.call.id: one for one in await claim(database, 9.0)}
    assert set(again) == {*done, "waits-waits"}
    assert all(one.attempts == 1 for one in again.values())
    assert all(one.since == 9.0 for call_id, one in again.items() if call_id != "waits-waits")


async def test_a_job_whose_calls_had_ended_may_be_told_again(database: Opened) -> None:
    """What was brought back is made, and what its job has to tell from now on."""
    await add(database, a_call("start", 1))
    [one] = await claim(database)
    await database.outbox.settle(Settlement(one, CallState.DEAD, "410", ends_job=True), at=1.0)
    assert decide(database, make_again, ids=["job-1-start"]) == ["job-1-start"]
    assert await names(database, 9.0) == ["start"]


async def test_what_somebody_has_seen_to_is_over(database: Opened) -> None:
    """It is neither listed nor made again; what still waits cannot be put aside so."""
    await given(database)
    every = {"states": {CallState.UNKNOWN, CallState.DEAD}, "ids": ["waits-waits"]}
    assert decide(database, take_as_delivered, **every) == ["given-up-given-up", "unsure-unsure"]
    assert states(database)["unsure"] == "delivered"
    assert decide(database, make_again, ids=["unsure-unsure"]) == []
