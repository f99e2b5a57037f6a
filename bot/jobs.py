"""A job as its client sees it: what it says, and what comes of it, however often the connection is lost.

What a slow reader has not read is kept once: the latest Progress, the latest Preview of each image, Accepted and the end.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from bot.errors import (
    ClientError,
    JobCanceledError,
    JobFailedError,
    PictureBrokenError,
    RefusedError,
    UnexpectedAnswerError,
)
from bot.events import EVENT_DECODERS, TERMINAL_KINDS, Outcome
from bot.pictures import BrokenPieces, PictureAssembly
from bot.waiting import News
from proto import atelier_pb2 as pb
from server.errors import AtelierError
from server.events import Accepted, Canceled, Event, Failed, Preview, Progress, Succeeded
from server.wire.codec import decode_failure

Canceler = Callable[[str], Awaitable[pb.JobState]]


class JobHandle:
    """One job. Iterate over it for its events (the last one is terminal), or await `result()`; or both."""

    def __init__(self, opening: pb.Submit | pb.Watch, cancel: Canceler) -> None:
        self._opening = opening
        self._cancel = cancel
        self._news = News()
        self._accepted: Accepted | None = None
        self._progress: Progress | None = None
        self._previews: dict[int, Preview] = {}
        self._terminal: Event | None = None
        self._last_number = -1
        self._pictures = PictureAssembly()
        self._end: Outcome | AtelierError | ClientError | None = None
        self.job_id = ""  # known once the job is accepted
        self.duplicate = False  # the idempotency key had this job already
        self.seed = 0  # of the first image
        if isinstance(opening, pb.Watch):
            self.job_id = opening.job_id
            self._last_number = opening.from_event - 1

    # For who has the job

    @property
    def ended(self) -> bool:
        """Whether `result()` answers at once."""
        return self._end is not None

    async def accepted(self) -> None:
        """Until the job has an id. Raises RefusedError, or what became of the connection."""
        while not self.job_id:
            self._raise_end()
            await self._news.wait()

    async def result(self) -> Outcome:
        """What came of it. Raises JobFailedError, JobCanceledError, PictureBrokenError, RefusedError, ClientError."""
        while self._end is None:
            await self._news.wait()
        self._raise_end()
        assert isinstance(self._end, Outcome)
        return self._end

    async def cancel(self) -> pb.JobState:
        """Ask that it be stopped; gives its state at that moment. `result()` then raises JobCanceledError, or was faster."""
        return await self._cancel(self.job_id)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.events()

    async def events(self) -> AsyncIterator[Event]:
        """Its events in order, those that were overtaken left out; the terminal one ends it. Raises if there will be none."""
        seen = -1
        while True:
            event = self._next_after(seen)
            if event is not None:
                seen = event.number
                yield event
                if event is self._terminal:
                    return
            elif self._end is not None and self._terminal is None:
                self._raise_end()
            else:
                await self._news.wait()

    # For the connection

    def opening(self) -> pb.Envelope:
        """Submit until that is answered, then Watch from the first event that was not heard."""
        self._pictures = PictureAssembly()
        if isinstance(self._opening, pb.Submit):
            if not self.job_id:
                return pb.Envelope(submit=self._opening)
            watch = _watch_instead(self._opening, self.job_id)
        else:
            watch = self._opening
        again = pb.Watch()
        again.CopyFrom(watch)
        again.from_event = self._last_number + 1
        return pb.Envelope(watch=again)

    def hear(self, kind: str, message: Any) -> bool:
        """Take a message of the job; True when it was the last."""
        try:
            self._hear(kind, message)
        except BrokenPieces as broken:
            self._finish(PictureBrokenError(self.job_id, str(broken)))
        self._news.tell()
        return self.ended

    def fail(self, error: Exception) -> None:
        """Nothing more will be heard of the job."""
        assert isinstance(error, (AtelierError, ClientError))
        self._finish(error)
        self._news.tell()

    def _hear(self, kind: str, message: Any) -> None:
        if kind == "chunk":
            self._pictures.take(message)
        elif kind == "error":
            self._finish(RefusedError.told(decode_failure(message)))
        elif kind not in EVENT_DECODERS:
            self._finish(UnexpectedAnswerError(f"{kind} came where a job's events were asked for"))
        else:
            event = EVENT_DECODERS[kind](message)
            if event.number > self._last_number or kind in TERMINAL_KINDS:  # a Watch from beyond the end hears the end
                self._last_number = event.number
                self._keep[type(event)](self, event)
            if kind == "accepted":
                self.duplicate = message.duplicate

    def _keep_accepted(self, event: Accepted) -> None:
        self._accepted = event
        self.job_id, self.seed = event.job_id, event.seed

    def _keep_progress(self, event: Progress) -> None:
        self._progress = event

    def _keep_preview(self, event: Preview) -> None:
        self._previews[event.image_index] = event

    def _keep_success(self, event: Succeeded) -> None:
        self._terminal = event
        outcome = self._outcome(event, ())
        if self._opening.inline_pictures:
            try:
                outcome = self._outcome(event, self._pictures.whole(event.artifacts))
            except BrokenPieces as broken:
                text = "; ".join((str(broken), *event.warnings))
                self._finish(PictureBrokenError(self.job_id, text, outcome))
                return
        self._finish(outcome)

    def _keep_failure(self, event: Failed) -> None:
        self._terminal = event
        self._finish(JobFailedError(event.job_id, event.failure))

    def _keep_cancellation(self, event: Canceled) -> None:
        self._terminal = event
        self._finish(JobCanceledError(event.job_id))

    _keep: dict[type, Callable[..., None]] = {  # noqa: RUF012  # a table, never written to
        Accepted: _keep_accepted,
        Progress: _keep_progress,
        Preview: _keep_preview,
        Succeeded: _keep_success,
        Failed: _keep_failure,
        Canceled: _keep_cancellation,
    }

    def _outcome(self, event: Succeeded, pictures: tuple[bytes, ...]) -> Outcome:
        return Outcome(
            job_id=event.job_id,
            artifacts=event.artifacts,
            pictures=pictures,
            warnings=event.warnings,
            queued_seconds=event.queued_seconds,
            processing_seconds=event.processing_seconds,
        )

    def _finish(self, end: Outcome | AtelierError | ClientError) -> None:
        if self._end is None:
            self._end = end
            self._pictures = PictureAssembly()

    def _raise_end(self) -> None:
        if isinstance(self._end, Exception):
            raise self._end

    def _next_after(self, number: int) -> Event | None:
        """The earliest event that is kept and comes after `number`."""
        kept = (self._accepted, self._progress, *self._previews.values(), self._terminal)
        later = (event for event in kept if event is not None and event.number > number)
        return min(later, key=lambda event: event.number, default=None)


def _watch_instead(submit: pb.Submit, job_id: str) -> pb.Watch:
    """A Watch with the wishes of a Submit."""
    return pb.Watch(
        job_id=job_id,
        progress=submit.progress,
        previews=submit.preview_every_steps > 0,
        inline_pictures=submit.inline_pictures,
    )
