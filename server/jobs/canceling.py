"""Cancelling a job of another node that has the same records, with no broker between the two.

Whoever cancels takes the job away from the node that runs it, by its lease, and ends it. That node looks every second whether it
still has what it runs, and lets go of what it has not.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from server.clock import Clock, Pauses
from server.errors import RecordsUnavailable
from server.futures import Tasks
from server.interfaces import Announcer, JobStore, Takings
from server.job import IllegalTransition, Job, JobState, LeaseLost, moved
from server.jobs.board import Board, terminal_event

log = structlog.get_logger("atelier.jobs")

LOOK_EVERY = 1.0  # seconds; a job that was cancelled elsewhere is painted on for so long at most
ASK_AGAIN = 1.0  # seconds; the records are away, or the job went to a third node in the same moment
GIVE_UP_AFTER = 300  # seconds


class CancelsHere(Protocol):
    """The jobs of this node (server.jobs.lifecycle)."""

    def has(self, job_id: str) -> bool:
        """Whether this node runs it."""
        ...

    def cancel(self, job_id: str) -> None:
        """Stop it."""
        ...


class RunsHere(CancelsHere, Protocol):
    """The same, for who looks after them."""

    @property
    def ids(self) -> frozenset[str]:
        """Of those that have not ended."""
        ...

    def lose(self, job_id: str) -> None:
        """Let go of it: another node has it."""
        ...


class CancelsAnywhere:
    """Cancels here at once, and elsewhere by asking again every `again` seconds until `_try` has it, some minutes long."""

    def __init__(
        self, here: CancelsHere, store: JobStore, board: Board, announcer: Announcer, clock: Clock, *, again: float
    ) -> None:
        self._here = here
        self._store = store
        self._board = board
        self._announcer = announcer
        self._clock = clock
        self._again = again
        self._pauses = Pauses(clock)
        self._tasks = Tasks()
        self._asked: set[str] = set()

    def stop(self) -> None:
        """Ask no more."""
        self._pauses.stop()

    def cancel(self, job_id: str) -> None:
        """Stop a job; one that has ended is left alone."""
        if self._here.has(job_id):
            self._here.cancel(job_id)
        elif job_id not in self._asked:
            self._asked.add(job_id)
            self._tasks.start(self._ask(job_id))

    async def _ask(self, job_id: str) -> None:
        try:
            for _ in range(round(GIVE_UP_AFTER / self._again)):
                if await self._try(job_id) or not await self._pauses.take(self._again):
                    return
            log.warning("job.not_canceled", job_id=job_id)
        finally:
            self._asked.discard(job_id)

    async def _try(self, job_id: str) -> bool:
        """Whether nothing more is to be done."""
        raise NotImplementedError

    async def _end(self, job: Job) -> None:
        """One whose lease this node has just got, and which it does not run: it ends here."""
        ending = moved(job, JobState.CANCELED, at=self._clock.seconds(), last_event=job.last_event + 1)
        ended = await self._store.move(ending, self._announcer.calls(ending))
        log.info("job.ended", job_id=job.id, state=ended.state.value)
        if self._board.has(job.id):
            self._board.close(terminal_event(ended))


class RecordedCanceling(CancelsAnywhere):
    """Cancels by the records."""

    _here: RunsHere

    def __init__(
        self, *, here: RunsHere, store: JobStore, takings: Takings, board: Board, announcer: Announcer, clock: Clock
    ) -> None:
        super().__init__(here, store, board, announcer, clock, again=ASK_AGAIN)
        self._takings = takings

    def begin(self) -> None:
        """Look from now on whether this node still has what it runs."""
        self._tasks.start(self._look())

    async def _try(self, job_id: str) -> bool:
        try:
            job = await self._takings.take_away(job_id, at=self._clock.seconds())
            if job is None:
                self._here.cancel(job_id)  # it may have come here meanwhile
            else:
                await self._end(job)
        except (RecordsUnavailable, LeaseLost, IllegalTransition) as error:
            log.debug("job.cancel_unsure", job_id=job_id, reason=str(error))
            return False
        return True

    async def _look(self) -> None:
        while await self._pauses.take(LOOK_EVERY):
            running = self._here.ids
            if not running:
                continue
            try:
                held = await self._takings.held()
            except RecordsUnavailable as error:
                log.debug("leases.unseen", reason=error.reason)
                continue
            for job_id in running - held:
                self._here.lose(job_id)
