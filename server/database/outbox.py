"""The outbox: calls that are to be made elsewhere, claimed by a node, made, and settled.

Calls of one job are made in the order of their positions, one at a time. A FLEETING one that was tried in vain, or has waited for
long, holds up nobody: it is dropped when a later call of its job is claimed. A claim is on the disk before anything is sent; one
that expires means that nobody knows whether its call arrived, and what is then done is what the call's `care` says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Exists,
    FromClause,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    not_,
    null,
    or_,
    select,
    text,
    update,
)

from server.database.reading import Reader
from server.database.rows import call_of, call_row
from server.database.schema import outbox
from server.database.statements import add_new
from server.database.writing import GroupWriter
from server.webhook import CallState, Care, Channel, Claimed, OutboxCall, Settlement

STALE_AFTER = 0.5  # seconds: news that could not be told by then holds up nothing that comes after it
LOOKED_AT = 200  # due calls that one claim chooses from: it stays short, however many wait
_LOCK = 0x6174656C636C6D  # "atelclm": one claim at a time on PostgreSQL, or two nodes could turn a job's calls around

_OTHER = outbox.alias("other")


class Bell:
    """Rings when calls were recorded, so that nobody has to look for them all the time."""

    def __init__(self) -> None:
        self._wake: list[tuple[Channel, Callable[[], None]]] = []

    def wake(self, channel: Channel, listener: Callable[[], None]) -> None:
        """Call `listener` when there are new calls of a channel."""
        self._wake.append((channel, listener))

    def ring(self, calls: Sequence[OutboxCall]) -> None:
        """These were recorded."""
        channels = {call.channel for call in calls}
        for channel, listener in self._wake:
            if channel in channels:
                listener()


class SqlOutbox:
    """An `Outbox` of one channel and one node."""

    def __init__(
        self, channel: Channel, *, writer: GroupWriter, reader: Reader, node: Callable[[], str], bell: Bell
    ) -> None:
        self._channel = channel
        self._bell = bell
        self._writer = writer
        self._reader = reader
        self._node = node

    async def begin(self, *, at: float) -> None:
        """What this node's earlier life was making has an unknown outcome."""
        mine = and_(_is(CallState.SENDING), outbox.c.channel == self._channel, outbox.c.claimed_by == self._node())
        await self._writer.write(partial(_expire, which=mine, at=at), durable=True)

    async def add(self, calls: Sequence[OutboxCall], *, at: float, durable: bool) -> None:
        """Keep calls to be made."""
        rows = [call_row(call, at=at) for call in calls]
        await self._writer.write(partial(add_calls, calls=rows), durable=durable)
        self._bell.ring(calls)

    async def claim(
        self, *, at: float, until: float, most: int, room: Mapping[str, int], others: int
    ) -> Sequence[Claimed]:
        """Calls that are this node's to make now."""
        work = partial(
            _claim, channel=self._channel, node=self._node(), at=at, until=until, most=most, room=room, others=others
        )
        return await self._writer.write(work, durable=True)

    async def settle(self, settlement: Settlement, *, at: float) -> None:
        """Record what became of a call."""
        durable = settlement.claimed.call.care is not Care.FLEETING
        await self._writer.write(partial(_settle, settlement=settlement, at=at), durable=durable)

    async def postpone(self, target: str, *, until: float) -> None:
        """Nothing that waits for this target is due before then."""
        which = and_(_is(CallState.WAITING), outbox.c.channel == self._channel, outbox.c.target == target)
        statement = update(outbox).where(which, outbox.c.next_at < until).values(next_at=until)
        await self._writer.write(partial(_run, statement=statement), durable=False)

    async def forget(self, *, settled_before: float) -> None:
        """Forget calls of which nothing is to be done any more."""
        which = and_(outbox.c.channel == self._channel, outbox.c.settled_at < settled_before)
        ended = outbox.c.state.in_([state.value for state in CallState])  # all of them: the index begins with it
        await self._writer.write(partial(_run, statement=delete(outbox).where(which, ended)), durable=False)

    async def counts(self) -> Mapping[CallState, int]:
        """How many calls wait, are under way, or are for a person to look at."""
        return await self._reader.read(partial(counts, channel=self._channel))


# On the database's threads


def add_calls(connection: Connection, calls: Sequence[dict[str, Any]]) -> None:
    """Add rows of `outbox`; those whose id is there, or whose name for their job, are left as they are."""
    if calls:
        add_new(connection, outbox, calls)


def counts(connection: Connection, channel: Channel) -> dict[CallState, int]:
    """By state, without those that went well."""
    found: dict[CallState, int] = {}
    for state in (CallState.WAITING, CallState.SENDING, CallState.UNKNOWN, CallState.DEAD):
        settled = outbox.c.settled_at.is_not(None) if state in (CallState.UNKNOWN, CallState.DEAD) else _is(state)
        which = and_(outbox.c.channel == channel, outbox.c.state == state, settled)
        found[state] = connection.execute(select(func.count()).select_from(outbox).where(which)).scalar_one()
    return found


def _claim(
    connection: Connection,
    *,
    channel: Channel,
    node: str,
    at: float,
    until: float,
    most: int,
    room: Mapping[str, int],
    others: int,
) -> list[Claimed]:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    expired = and_(_is(CallState.SENDING), outbox.c.channel == channel, outbox.c.claimed_until < at)
    _expire(connection, which=expired, at=at)
    found = _due(connection, channel, at, most, room, others)
    _end(
        connection,
        outbox.c.id.in_([row.id for row in found if row.ended]),
        CallState.DEAD,
        "its job's calls had ended",
        at,
    )
    over = [row.id for row in found if row.over and not row.ended]
    if over:
        _end(connection, outbox.c.id.in_(over), CallState.DROPPED, "the end of another job had been told", at)
    chosen = [row.id for row in found if not (row.ended or row.over)]
    claim = {
        "state": CallState.SENDING.value,
        "attempts": outbox.c.attempts + 1,
        "claimed_until": until,
        "claimed_by": node,
    }
    statement = update(outbox).where(outbox.c.id.in_(chosen)).values(claim).returning(outbox)
    claimed = {row.id: row for row in connection.execute(statement)} if chosen else {}
    _drop_before(connection, [row for row in claimed.values() if row.job_id is not None], at)
    return [Claimed(call_of(claimed[key]), claimed[key].attempts, claimed[key].created_at) for key in chosen]


def _due(
    connection: Connection, channel: Channel, at: float, most: int, room: Mapping[str, int], others: int
) -> Sequence[Any]:
    """Calls whose turn it is: the first of each target before the second of any."""
    mine = [_is(CallState.WAITING), outbox.c.channel == channel, outbox.c.next_at <= at]
    which = [*mine, not_(_held_up(at)), not_(_overtaken(at))]
    if others:
        which.append(outbox.c.target.not_in([target for target, places in room.items() if not places]))
    else:
        which.append(outbox.c.target.in_([target for target, places in room.items() if places]))
    first = (
        select(
            outbox.c.id,
            outbox.c.job_id,
            outbox.c.position,
            outbox.c.target,
            outbox.c.next_at,
            _of_its_job(_OTHER.c.ends_job).label("ended"),
            _is_over().label("over"),
        )
        .where(*which)
        .order_by(outbox.c.next_at)
        .limit(LOOKED_AT)
        .subquery()
    )
    turn = func.row_number().over(partition_by=first.c.target, order_by=(first.c.next_at, first.c.position, first.c.id))
    places = case(dict(room), value=first.c.target, else_=others) if room else literal(others)
    ranked = select(first, turn.label("turn"), places.label("places")).subquery()
    seated = select(ranked).where(ranked.c.turn <= ranked.c.places).order_by(ranked.c.turn, ranked.c.next_at)
    return connection.execute(seated.limit(most)).all()


def _held_up(at: float) -> Exists:
    """By an earlier call of the job that is being made, or still worth making."""
    under_way = _OTHER.c.state == CallState.SENDING
    worth_it = and_(_OTHER.c.state == CallState.WAITING, not_(_stale(_OTHER, at)))
    return _of_its_job(_OTHER.c.position < outbox.c.position, or_(under_way, worth_it))


def _overtaken(at: float) -> ColumnElement[bool]:
    """By a later call of the job, which can be made now."""
    due = and_(_OTHER.c.state == CallState.WAITING, _OTHER.c.next_at <= at)
    return and_(_stale(outbox, at), _of_its_job(_OTHER.c.position > outbox.c.position, due))


def _is_over() -> ColumnElement[bool]:
    """News, though the end has been told: by another job that tells the same (an id is whose it is, and the call's name)."""
    whose = func.substr(outbox.c.id, 1, func.length(outbox.c.id) - func.length(outbox.c.name))
    end = exists().where(_OTHER.c.id == whose.concat("end"), _OTHER.c.job_id.is_distinct_from(outbox.c.job_id))
    return and_(outbox.c.care == Care.FLEETING, end)


def _stale(call: FromClause, at: float) -> ColumnElement[bool]:
    """News that were tried in vain, or could not be told in time."""
    late = or_(call.c.attempts > 0, call.c.created_at < at - STALE_AFTER)
    return and_(call.c.care == Care.FLEETING, late)


def _of_its_job(*which: ColumnElement[bool]) -> Exists:
    return exists().where(_OTHER.c.job_id == outbox.c.job_id, _OTHER.c.channel == outbox.c.channel, *which)


def _drop_before(connection: Connection, claimed: Sequence[Any], at: float) -> None:
    """What a claimed call has overtaken."""
    for row in claimed:
        before = and_(_of_job(row.job_id, row.channel), outbox.c.position < row.position)
        _end(connection, and_(before, outbox.c.state == CallState.WAITING), CallState.DROPPED, "", at)


def _expire(connection: Connection, *, which: ColumnElement[bool], at: float) -> None:
    end = case(
        {Care.ONCE.value: CallState.UNKNOWN.value, Care.FLEETING.value: CallState.DROPPED.value}, value=outbox.c.care
    )
    values = {
        "state": func.coalesce(end, CallState.WAITING.value),
        "settled_at": case((outbox.c.care == Care.REPEATED, null()), else_=at),
        "next_at": at,
        "claimed_until": None,
        "last_error": "the server ended while it was being made",
    }
    connection.execute(update(outbox).where(which).values(values))


def _settle(connection: Connection, *, settlement: Settlement, at: float) -> None:
    call, state = settlement.claimed.call, settlement.state
    if state is CallState.DELIVERED:  # true, whatever others have thought meanwhile
        which = outbox.c.id == call.id
    else:
        mine = outbox.c.attempts == settlement.claimed.attempts
        which = and_(outbox.c.id == call.id, mine, outbox.c.state == CallState.SENDING)
    values: dict[str, Any] = {"state": state.value, "last_error": settlement.error, "claimed_until": None}
    if state is CallState.WAITING:
        values["next_at"] = settlement.next_at
    else:
        values |= {"settled_at": at, "ends_job": settlement.ends_job}
    if state in (CallState.DELIVERED, CallState.DROPPED):
        values["payload"] = ""  # nobody needs it any more
    connection.execute(update(outbox).where(which).values(values))
    if call.job_id is None:
        return
    of_job = _of_job(call.job_id, call.channel)
    if settlement.ends_job:
        _end(connection, and_(of_job, outbox.c.state == CallState.WAITING), CallState.DEAD, settlement.error, at)
    if settlement.forget_news:
        news = and_(of_job, outbox.c.care == Care.FLEETING, outbox.c.settled_at.is_not(None))
        connection.execute(delete(outbox).where(news))


def _end(connection: Connection, which: ColumnElement[bool], state: CallState, error: str, at: float) -> None:
    values = {"state": state.value, "settled_at": at, "last_error": error}
    connection.execute(update(outbox).where(which).values(values))


def _of_job(job_id: str, channel: str) -> ColumnElement[bool]:
    """The channel in a form that no index has: SQLite would rather walk through all that waits than through one job's few."""
    return and_(outbox.c.job_id == job_id, func.coalesce(outbox.c.channel, "") == channel)


def _run(connection: Connection, *, statement: Any) -> None:
    connection.execute(statement)


def _is(state: CallState) -> ColumnElement[bool]:
    """In the very words of the partial indexes, or SQLite would not use them."""
    return outbox.c.state == literal(state.value, literal_execute=True)
