"""Every write goes through one thread, and those that wait while one commits are committed together.

A commit to a disk takes as long whatever is in it: fifty jobs that come at once share one. What is done to each of them is done
to all of them by one statement.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from server.database.engines import wait_for_disk
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.interfaces import Pool
from server.job import IllegalTransition, LeaseLost

T = TypeVar("T")
I = TypeVar("I")  # noqa: E741  # an item

TURNS = 2  # of the loop: in one, what has come over a socket becomes a write
HEARD_AT_ONCE = 16  # whoever waited goes on in the same turn of the loop: of 200 that takes too long for the rest
MOST_AT_ONCE = 200  # writes in one commit: what waits longest still waits for little


class CommitUnknown(RecordsUnavailable):
    """The connection was lost while it committed: it may be recorded, or not."""


@dataclass(frozen=True, slots=True, eq=False)
class Several(Generic[I, T]):
    """Writes of one kind, made for several items at once: `work` gives each one's result or refusal.

    In a commit they come before those of a higher `turn` and before all that are made one by one, whoever asked first. Who
    needs another order waits for the first to be done.
    """

    turn: int
    work: Callable[[Connection, Sequence[I]], Sequence[T | Exception]]


@dataclass(frozen=True, slots=True)
class _Write:
    """Either one of a kind, or a work of its own."""

    durable: bool
    done: asyncio.Future[Any]
    kind: Several[Any, Any] | None = None
    item: Any = None
    work: Callable[[Connection], Any] = lambda connection: None


OnCommit = Callable[[int, float], None]
"""Told, on the reactor thread, of so many writes that were committed together (or not), and the seconds that it took."""


def unheeded(writes: int, seconds: float) -> None:
    """An `OnCommit` for nobody."""


class GroupWriter:
    """Writes of one node. `pool` must have one thread, and `engine` one connection."""

    def __init__(self, engine: Engine, pool: Pool, on_commit: OnCommit = unheeded) -> None:
        self._engine = engine
        self._pool = pool
        self._on_commit = on_commit
        self._waiting: deque[_Write] = deque()
        self._busy = False
        self._tasks = Tasks()

    async def write(self, work: Callable[[Connection], T], *, durable: bool) -> T:
        """What `work` gives, once it is committed; if `durable`, to the disk.

        `work` may be called again where another's error undid it. Raises IllegalTransition and LeaseLost as `work` does,
        RecordsUnavailable where the database cannot write now, CommitUnknown where it may have.
        """
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._wait(_Write(durable, done, work=work))
        return await done

    async def write_one(self, kind: Several[I, T], item: I, *, durable: bool) -> T:
        """The same for an item of those that are written together. Raises what `kind.work` has for it in place of a result."""
        done: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._wait(_Write(durable, done, kind=kind, item=item))
        return await done

    def _wait(self, write: _Write) -> None:
        self._waiting.append(write)
        if not self._busy:
            self._busy = True
            self._tasks.start(self._write_all())

    async def _write_all(self) -> None:
        group: list[_Write] = []
        try:
            while self._waiting:
                if len(group) > 1:  # many at once: what is on its way comes along, and each commit costs the same
                    for _ in range(TURNS):
                        await asyncio.sleep(0)
                group = [self._waiting.popleft() for _ in range(min(MOST_AT_ONCE, len(self._waiting)))]
                began = time.monotonic()
                outcomes = await self._pool.run(self._committed, group)
                self._on_commit(len(group), time.monotonic() - began)
                for number, (write, outcome) in enumerate(zip(group, outcomes, strict=True), 1):
                    if number % HEARD_AT_ONCE == 0:
                        await asyncio.sleep(0)
                    if write.done.done():  # nobody waits any more
                        continue
                    if isinstance(outcome, Exception):
                        write.done.set_exception(outcome)
                    else:
                        write.done.set_result(outcome)
        finally:
            self._busy = False

    def _committed(self, group: Sequence[_Write]) -> list[Any]:
        """Each one's result or exception: all in one transaction, or each in its own if one of them breaks that."""
        try:
            return self._together(group)
        except RecordsUnavailable as unavailable:
            return [type(unavailable)(unavailable.reason) for _ in group]
        except Exception as error:
            if len(group) == 1:
                return [error]
            return [self._committed([write])[0] for write in group]

    def _together(self, group: Sequence[_Write]) -> list[Any]:
        committing = False
        try:
            with self._engine.connect() as connection:
                wait_for_disk(connection, any(write.durable for write in group))
                outcomes = _outcomes(group, connection)
                committing = True
                connection.commit()
                return outcomes
        except SQLAlchemyError as error:
            if not is_unavailable(error):
                raise
            raise (CommitUnknown if committing else RecordsUnavailable)(reason_of(error)) from error


def _outcomes(group: Sequence[_Write], connection: Connection) -> list[Any]:
    """Each one's, in the order in which they came."""
    outcomes: dict[int, Any] = {}
    kinds: dict[Several[Any, Any], list[int]] = {}
    for number, write in enumerate(group):
        if write.kind is not None:
            kinds.setdefault(write.kind, []).append(number)
    for kind in sorted(kinds, key=lambda each: each.turn):
        made = kind.work(connection, [group[number].item for number in kinds[kind]])
        outcomes.update(zip(kinds[kind], made, strict=True))
    for number, write in enumerate(group):
        if write.kind is None:
            outcomes[number] = _outcome(write.work, connection)
    return [outcomes[number] for number in range(len(group))]


def _outcome(work: Callable[[Connection], T], connection: Connection) -> T | Exception:
    """Refusals come before anything is written, so the others of the transaction need not suffer."""
    try:
        return work(connection)
    except (IllegalTransition, LeaseLost) as refusal:
        return refusal


def is_unavailable(error: SQLAlchemyError) -> bool:
    """Whether the database cannot be used now, so that the same might work later; anything else is a mistake of ours."""
    if not isinstance(error, DBAPIError):
        return True  # the pool's: no connection became free in time
    # By PEP 249's names, of which each driver has its own: no connection, a full disk, a lock, a time-out, a server that only
    # reads; and DatabaseError alone, which is sqlite3's for a damaged file and the base of the rest.
    kinds = {kind.__name__ for kind in type(error.orig).__mro__}
    return bool(kinds & {"OperationalError", "InternalError"}) or type(error.orig).__name__ == "DatabaseError"


def reason_of(error: SQLAlchemyError) -> str:
    """The database's own words, in one line; they hold neither values nor passwords."""
    words = str(error.orig if isinstance(error, DBAPIError) else error)
    with suppress(IndexError):
        return words.strip().splitlines()[0]
    return type(error).__name__
