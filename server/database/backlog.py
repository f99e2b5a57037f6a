"""What the records hold that is still to be done, read by the partial indexes alone."""

from __future__ import annotations

from sqlalchemy import Connection, func, select

from server.backlog import Backlog, ChannelBacklog
from server.database.outbox import counts
from server.database.schema import IS_LIVE, IS_WAITING, jobs, outbox
from server.job import JobState
from server.webhook import Channel


def backlog(connection: Connection) -> Backlog:
    """All nodes' together."""
    by_state = select(jobs.c.state, func.count()).where(IS_LIVE).group_by(jobs.c.state)
    live = {JobState(state): count for state, count in connection.execute(by_state)}
    return Backlog(live, {channel: _of_channel(connection, channel) for channel in Channel})


def _of_channel(connection: Connection, channel: Channel) -> ChannelBacklog:
    first = select(func.min(outbox.c.created_at), func.min(outbox.c.next_at))
    oldest, due = connection.execute(first.where(IS_WAITING, outbox.c.channel == channel.value)).one()
    return ChannelBacklog(counts(connection, channel), oldest, due)
