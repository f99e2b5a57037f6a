"""A gateway's jobs: admitted here, painted by whichever worker takes them.

Admission records the call to dispatch a job in the transaction that makes it; the call is made from the outbox
(server.doors.amqp.dispatch). Here such a job is on the board, and keeps its place, until it has ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import structlog

from server.events import Canceled, Event, Failed, Succeeded
from server.incoming import INCOMING
from server.job import Job, JobState
from server.jobs.board import Board
from server.jobs.places import Places
from server.webhook import Channel, OutboxCall

log = structlog.get_logger("atelier.jobs")


class DispatchCalls:
    """An `Announcer` of gateways: a job that was just admitted is to be dispatched."""

    def calls(self, job: Job) -> Sequence[OutboxCall]:
        """One call, of a job that nobody has begun."""
        if job.state is not JobState.QUEUED:
            return ()
        traceparent = INCOMING.get().traceparent
        payload = json.dumps({"job_id": job.id, **({"traceparent": traceparent} if traceparent else {})})
        return (
            OutboxCall(
                id=f"dispatch-{job.id}",
                job_id=job.id,
                name="dispatch",
                channel=Channel.DISPATCH,
                payload=payload,
                position=0,
            ),
        )


class Dispatched:
    """The jobs that wait for their ends elsewhere. A `Watcher` of all jobs."""

    def __init__(self, board: Board, places: Places, look_after: Callable[[str], None]) -> None:
        self._board = board
        self._places = places
        self._look_after = look_after
        self._held: dict[str, Job] = {}

    def begin(self, job: Job) -> None:
        """It was just admitted, and is dispatched as soon as the broker takes it."""
        self._held[job.id] = job
        self._board.open(job)
        self._look_after(job.id)
        log.info("job.accepted", job_id=job.id, owner=job.owner, model=job.request.model)

    def job_event(self, event: Event) -> None:
        """One that has ended gives its place back."""
        if isinstance(event, Succeeded | Failed | Canceled):
            job = self._held.pop(event.job_id, None)
            if job is not None:
                self._places.release(job.owner, job.id)
