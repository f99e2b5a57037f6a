"""Who follows which job, and the numbers of its events.

Of a job that is under way the board keeps what a late watcher needs: Accepted, the latest Progress, and all that was told of its
text. A job that has ended says Accepted and its terminal event, made again from its record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import structlog

from server.errors import Code, JobFailure, Refusal
from server.events import Accepted, Canceled, Event, Failed, Output, Progress, Succeeded, TerminalEvent, joined
from server.interfaces import JobStore, Watcher
from server.job import TERMINAL, Job, JobState
from server.replies import JobView

log = structlog.get_logger("atelier.jobs")


class _Sheet:
    """One live job on the board."""

    __slots__ = ("accepted", "key", "next_number", "progress", "said", "watchers")

    def __init__(self, accepted: Accepted, next_number: int, key: str) -> None:
        self.accepted = accepted
        self.key = key
        self.progress: Progress | None = None
        self.said: Output | None = None
        self.next_number = next_number
        self.watchers: list[tuple[Watcher, int]] = []  # each with the first event it wants


class Board:
    """The live jobs and their watchers. Everything here runs on the reactor thread."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._sheets: dict[str, _Sheet] = {}
        self._taps: list[Watcher] = []
        self._strange: Callable[[str], None] = lambda job_id: None

    def when_strange(self, look_after: Callable[[str], None]) -> None:
        """Call this with a job that someone wants to follow, and of which nothing was said here: another node may run it."""
        self._strange = look_after

    def tap(self, watcher: Watcher) -> None:
        """Tell `watcher` what happens to every job from now on, for as long as the server runs."""
        self._taps.append(watcher)

    def open(self, job: Job) -> None:
        """Put up a job that was just accepted, or taken up again (those who follow it already stay)."""
        self._sheets.setdefault(job.id, _Sheet(accepted_event(job), job.last_event + 1, job.idempotency_key))

    def next_number(self, job_id: str) -> int:
        """Take the number of the job's next event. An event so numbered must be published before another is taken."""
        sheet = self._sheets[job_id]
        number = sheet.next_number
        sheet.next_number += 1
        return number

    def publish(self, event: Event) -> None:
        """Tell all who follow the job; of a text nothing that was told here before."""
        sheet = self._sheets[event.job_id]
        if isinstance(event, Progress):
            sheet.progress = event
        elif isinstance(event, Output):
            more = _news(sheet.said, event)
            if more is None:
                return
            sheet.said, event = joined(sheet.said, more), more
        for watcher, from_event in tuple(sheet.watchers):  # a watcher may leave when it hears
            try:
                _tell(watcher, [event], from_event)
            except Exception:  # it breaks its contract; the job and its other watchers go on
                log.exception("watcher.broken", job_id=event.job_id)
                self.leave(event.job_id, watcher)
        for watcher in self._taps:
            try:
                watcher.job_event(event)
            except Exception:
                log.exception("watcher.broken", job_id=event.job_id)

    def relay(self, event: Progress | Output) -> None:
        """Tell what another node has said of a job, unless it is old."""
        sheet = self._sheets.get(event.job_id)
        if sheet is not None and event.number >= sheet.next_number:
            sheet.next_number = event.number + 1
            self.publish(event)

    def close(self, event: TerminalEvent) -> None:
        """Tell the terminal event, and take the job down."""
        self.publish(event)
        del self._sheets[event.job_id]

    def take_down(self, job_id: str) -> None:
        """Say no more of a job that this life of the server will not end."""
        self._sheets.pop(job_id, None)

    def has(self, job_id: str) -> bool:
        """Whether the job is up."""
        return job_id in self._sheets

    def progress(self, job_id: str) -> Progress | None:
        """The latest progress of a live job."""
        sheet = self._sheets.get(job_id)
        return sheet.progress if sheet else None

    def key_of(self, job_id: str) -> str:
        """The idempotency key of a live job, "" where it has none."""
        sheet = self._sheets.get(job_id)
        return sheet.key if sheet else ""

    def said(self, job_id: str) -> str:
        """The text of a live job as far as it was told here."""
        sheet = self._sheets.get(job_id)
        return sheet.said.text if sheet and sheet.said else ""

    def last_number(self, job: Job) -> int:
        """The number of the job's latest event."""
        sheet = self._sheets.get(job.id)
        return sheet.next_number - 1 if sheet else job.last_event

    def view(self, job: Job) -> JobView:
        """A job as it stands, by its record and by what was said of it here."""
        progress = self.progress(job.id)
        done = 1.0 if job.state is JobState.SUCCEEDED else 0.0
        return JobView(job, progress.fraction if progress else done, self.last_number(job))

    async def follow(self, job_id: str, watcher: Watcher, from_event: int = 0) -> None:
        """Tell `watcher` what the board has from `from_event` on, then everything as it happens."""
        if job_id not in self._sheets:
            job = await self._store.get(job_id)
            if job is None:  # forgotten between the look-up and here
                raise job_not_found(job_id)
            if job.state in TERMINAL:
                _tell(watcher, [accepted_event(job), terminal_event(job)], from_event)
                return
            self.open(job)  # it is recorded, and about to begin, or runs elsewhere
            self._strange(job_id)
        sheet = self._sheets[job_id]
        kept = [event for event in (sheet.progress, sheet.said) if event is not None]
        sheet.watchers.append((watcher, from_event))
        _tell(watcher, [sheet.accepted, *sorted(kept, key=lambda event: event.number)], from_event)

    def leave(self, job_id: str, watcher: Watcher) -> None:
        """Tell `watcher` no more."""
        sheet = self._sheets.get(job_id)
        if sheet is not None:
            sheet.watchers = [entry for entry in sheet.watchers if entry[0] is not watcher]


def _news(said: Output | None, event: Output) -> Output | None:
    """What of a piece was not told yet; None where there is nothing, or where what comes before it is not known: it will be told
    with the end."""
    told = said.end if said else 0
    if event.offset > told or event.end <= told:
        return None
    return replace(event, offset=told, text=event.text[told - event.offset :])


def _tell(watcher: Watcher, events: list[Event], from_event: int) -> None:
    for event in events:
        terminal = isinstance(event, (Succeeded, Failed, Canceled))
        if terminal or event.number >= from_event:  # the end is always told: nobody waits for ever
            watcher.job_event(event)


def accepted_event(job: Job) -> Accepted:
    """The job's event number 0."""
    return Accepted(number=0, job_id=job.id, seed=job.request.seed)


_TERMINAL_EVENTS: dict[JobState, Callable[[Job], TerminalEvent]] = {
    JobState.SUCCEEDED: lambda job: Succeeded(
        number=job.last_event,
        job_id=job.id,
        artifacts=job.artifacts,
        warnings=job.warnings,
        queued_seconds=max(0.0, (job.started_at or job.created_at) - job.created_at),
        processing_seconds=max(0.0, (job.completed_at or 0.0) - (job.started_at or job.created_at)),
        output=job.output,
        figures=job.figures,
    ),
    JobState.FAILED: lambda job: Failed(
        number=job.last_event,
        job_id=job.id,
        failure=job.failure or JobFailure(Code.INTERNAL_ERROR, "no reason was recorded"),
    ),
    JobState.CANCELED: lambda job: Canceled(number=job.last_event, job_id=job.id),
}


def terminal_event(job: Job) -> TerminalEvent:
    """The last event of an ended job, as its record has it."""
    return _TERMINAL_EVENTS[job.state](job)


def job_not_found(job_id: str) -> Refusal:
    """For a job that is not there, or belongs to another: which of the two is nobody's business."""
    shown = job_id if len(job_id) <= 40 else f"{job_id[:37]}..."
    return Refusal(Code.JOB_NOT_FOUND, f"no job {shown!r} of yours", field="job_id", limit="the id of one of your jobs")


async def owned_job(store: JobStore, owner: str, job_id: str) -> Job:
    """The job, if `owner` owns it. Raises Refusal (JOB_NOT_FOUND)."""
    job = await store.get(job_id)
    if job is None or job.owner != owner:
        raise job_not_found(job_id)
    return job
