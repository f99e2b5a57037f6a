"""What the records hold that is still to be done, over SQLite and PostgreSQL."""

from __future__ import annotations

from server.backlog import Backlog, ChannelBacklog
from server.database.backlog import backlog
from server.job import JobState
from server.webhook import CallState, Channel, OutboxCall, Settlement
from tests.server.database.contract import a_job, brought_to
from tests.server.database.opened import Opened


def found(database: Opened) -> Backlog:
    """As it stands."""
    with database.reading.connect() as connection:
        return backlog(connection)


def call(number: int, channel: Channel = Channel.WEBHOOK) -> OutboxCall:
    """One of a job of its own."""
    return OutboxCall(
        id=f"c-{number}", job_id=f"j-{number}", name="end", channel=channel, payload="{}", position=1, target="t"
    )


async def test_an_empty_database_has_none(database: Opened) -> None:
    """And no ages."""
    nothing = ChannelBacklog(
        {CallState.WAITING: 0, CallState.SENDING: 0, CallState.UNKNOWN: 0, CallState.DEAD: 0}, None, None
    )
    assert found(database) == Backlog({}, {Channel.WEBHOOK: nothing, Channel.DISPATCH: nothing})
    assert (nothing.age(5.0), nothing.overdue(5.0)) == (0.0, 0.0)


async def test_jobs_are_counted_by_state_until_they_have_ended(database: Opened) -> None:
    """Whoever runs them."""
    for number, state in enumerate([JobState.QUEUED, JobState.QUEUED, JobState.PROCESSING, JobState.SUCCEEDED]):
        await brought_to(database.store, state, a_job(f"job-{number}"))
    assert found(database).jobs == {JobState.QUEUED: 2, JobState.PROCESSING: 1}


async def test_calls_are_told_by_channel_and_state_with_the_oldest(database: Opened) -> None:
    """One that is tried again later is old, but not overdue."""
    outbox = database.outbox
    await outbox.add([call(1)], at=10.0, durable=False)
    (claimed,) = await outbox.claim(at=11.0, until=99.0, most=9, room={}, others=9)
    await outbox.settle(Settlement(claimed, CallState.WAITING, next_at=70.0), at=12.0)
    await outbox.add([call(2), call(3, Channel.DISPATCH)], at=20.0, durable=False)
    held = found(database)
    webhooks, dispatches = held.channel(Channel.WEBHOOK), held.channel(Channel.DISPATCH)
    assert (webhooks.calls[CallState.WAITING], dispatches.calls[CallState.WAITING]) == (2, 1)
    assert (webhooks.age(30.0), webhooks.overdue(30.0)) == (20.0, 10.0)
    (second,) = await outbox.claim(at=21.0, until=99.0, most=9, room={}, others=9)
    await outbox.settle(Settlement(second, CallState.DEAD, "410"), at=22.0)
    webhooks = found(database).channel(Channel.WEBHOOK)
    assert (webhooks.calls[CallState.WAITING], webhooks.calls[CallState.DEAD]) == (1, 1)
    assert (webhooks.age(30.0), webhooks.overdue(30.0)) == (20.0, 0.0)
