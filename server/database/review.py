"""What a person sees of the outbox, and decides: calls that are not made yet, that were given up, or that may have arrived."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, or_, select, update

from server.database.schema import outbox
from server.webhook import CallState, Channel

TO_DECIDE = frozenset({CallState.UNKNOWN, CallState.DEAD})
NOT_OVER = TO_DECIDE | {CallState.WAITING, CallState.SENDING}


@dataclass(frozen=True, slots=True)
class Kept:
    """A call as it stands. Times are seconds since 1970; `next_at` is when a waiting one is tried."""

    id: str
    job_id: str | None
    name: str
    target: str
    state: CallState
    since: float
    attempts: int
    next_at: float | None
    error: str
    payload: str


def calls_in(connection: Connection, channel: Channel, states: Collection[CallState], most: int) -> list[Kept]:
    """At most so many calls in these states, the oldest first."""
    which = (outbox.c.channel == channel, outbox.c.state.in_([state.value for state in states]))
    rows = connection.execute(select(outbox).where(*which).order_by(outbox.c.created_at, outbox.c.id).limit(most))
    return [
        Kept(
            id=row.id,
            job_id=row.job_id,
            name=row.name,
            target=row.target,
            state=CallState(row.state),
            since=row.created_at,
            attempts=row.attempts,
            next_at=row.next_at if row.state == CallState.WAITING else None,
            error=row.last_error,
            payload=row.payload,
        )
        for row in rows
    ]


def make_again(
    connection: Connection, channel: Channel, *, at: float, ids: Sequence[str] = (), states: Collection[CallState] = ()
) -> list[str]:
    """Let calls be made anew that wait, were given up or may have arrived: these, and all in those of the states.

    Gives their ids. What ended the calls of their jobs does so no more; others of these jobs are not brought back.
    """
    values = {
        "state": CallState.WAITING.value,
        "attempts": 0,
        "created_at": case((outbox.c.state == CallState.WAITING, outbox.c.created_at), else_=at),
        "next_at": at,
        "settled_at": None,
    }
    rows = _changed(connection, channel, ids, states, TO_DECIDE | {CallState.WAITING}, values)
    for job_id in {row.job_id for row in rows if row.job_id is not None}:
        ended = (outbox.c.job_id == job_id, func.coalesce(outbox.c.channel, "") == channel)
        connection.execute(update(outbox).where(*ended).values(ends_job=False))
    return sorted(row.id for row in rows)


def take_as_delivered(
    connection: Connection, channel: Channel, *, at: float, ids: Sequence[str] = (), states: Collection[CallState] = ()
) -> list[str]:
    """Calls that were given up or may have arrived are over: somebody has seen to them. Gives their ids."""
    values = {"state": CallState.DELIVERED.value, "settled_at": at, "payload": ""}
    return sorted(row.id for row in _changed(connection, channel, ids, states, TO_DECIDE, values))


def _changed(
    connection: Connection,
    channel: Channel,
    ids: Sequence[str],
    states: Collection[CallState],
    open_to_it: Collection[CallState],
    values: dict[str, Any],
) -> Sequence[Any]:
    chosen = or_(outbox.c.id.in_(ids), outbox.c.state.in_([state.value for state in states]))
    possible = outbox.c.state.in_([state.value for state in open_to_it])
    statement = update(outbox).where(outbox.c.channel == channel, chosen, possible).values(values)
    return connection.execute(statement.returning(outbox.c.id, outbox.c.job_id)).all()
