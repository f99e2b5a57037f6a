"""A job as its client sees it: what it says, and what comes of it, however often the connection is lost.

What a slow reader has not read is kept once: the latest Progress, the latest Preview of each image, Accepted and the end. A text
is kept whole, and told piece by piece, each of it once, although a server that was started again tells it anew.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
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
from server.events import Accepted, Canceled, Event, Failed, Output, Preview, Progress, Succeeded, joined
from server.wire.telling import decode_failure

USUAL_WAIT = 1.0  # seconds, where a server that is UNAVAILABLE does not say how long
PUT_OFF_FOR = 60.0  # seconds; Patience gives a server that is away as long

Canceler = Callable[[str], Awaitable[pb.JobState]]


class JobHandle:
    """One job. Iterate over it for its events (the last one is terminal), or await `result()`; or both."""

    def __init__(self, opening: pb.Submit | pb.Predict | pb.Watch, cancel: Canceler) -> None:
        self._opening = opening
        self._cancel = cancel
        self._news = News()
        self._accepted: Accepted | None = None
        self._progress: Progress | None = None
        self._previews: dict[int, Preview] = {}
        self._output: Output | None = None  # the latest piece's number, and all the text so far
        self._terminal: Event | None = None
        self._last_number = -1
        self._pictures = PictureAssembly()
        self._end: Outcome | AtelierError | ClientError | None = None
        self._put_off: float | None = None
        self._put_off_for = 0.0  # seconds, since something was heard of the job
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

    @property
    def text(self) -> str:
        """What is written so far, of a job that writes."""
        return self._output.text if self._output else ""

    async def cancel(self) -> pb.JobState:
        """Ask that it be stopped; gives its state at that moment. `result()` then raises JobCanceledError, or was faster."""
        return await self._cancel(self.job_id)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self.events()

    async def events(self) -> AsyncIterator[Event]:
        """Its events in order, those that were overtaken left out; the terminal one ends it. Raises if there will be none."""
        seen, read = -1, 0
        while True:
            event = self._next_after(seen, read)
            if event is not None:
                seen = max(seen, event.number)
                if isinstance(event, Output):
                    event = replace(event, offset=read, text=event.text[read:])
                    read = event.end
                yield event
                if event is self._terminal:
                    return
            elif self._end is not None and self._terminal is None:
                self._raise_end()
            else:
                await self._news.wait()

    # For the connection

    def opening(self) -> pb.Envelope:
        """Submit, or Predict, until that is answered, then Watch from the first event that was not heard."""
        self._pictures = PictureAssembly()
        if isinstance(self._opening, pb.Watch):
            watch = self._opening
        elif not self.job_id:
            asked = self._opening
            return pb.Envelope(submit=asked) if isinstance(asked, pb.Submit) else pb.Envelope(predict=asked)
        else:
            watch = _watch_instead(self._opening, self.job_id)
        again = pb.Watch()
        again.CopyFrom(watch)
        again.from_event = self._last_number + 1
        return pb.Envelope(watch=again)

    @property
    def put_off(self) -> float | None:
        """A job that is accepted is not given up because the server cannot look it up at the moment."""
        return self._put_off

    def hear(self, kind: str, message: Any) -> bool:
        """Take a message of the job; True when it was the last, or the server cannot say any more now."""
        self._put_off = self._wait_for(message) if kind == "error" else None
        if self._put_off is not None:
            return True
        self._put_off_for = 0.0
        try:
            self._hear(kind, message)
        except BrokenPieces as broken:
            self._finish(PictureBrokenError(self.job_id, str(broken)))
        self._news.tell()
        return self.ended

    def _wait_for(self, error: pb.Error) -> float | None:
        """Until the server may know more of an accepted job; None where it is of no use, or has been too long."""
        wait = error.retry_after_seconds or USUAL_WAIT
        if error.code != pb.UNAVAILABLE or not self.job_id or self._put_off_for + wait > PUT_OFF_FOR:
            return None
        self._put_off_for += wait
        return wait

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
            if isinstance(event, Output):
                self._keep_output(event)
                self._last_number = max(self._last_number, event.number)
            elif (
                event.number > self._last_number or kind in TERMINAL_KINDS
            ):  # a Watch from beyond the end hears the end
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

    def _keep_output(self, event: Output) -> None:
        """Its place is said by its offset: pieces of one number may be several, and some are told again."""
        whole = joined(self._output, event)
        if whole.offset == 0 and whole.end > len(self.text):
            self._output = whole

    def _keep_success(self, event: Succeeded) -> None:
        self._terminal = event
        outcome = self._outcome(event, ())
        if not isinstance(self._opening, pb.Predict) and self._opening.inline_pictures:
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
            output=event.output,
            figures=event.figures,
        )

    def _finish(self, end: Outcome | AtelierError | ClientError) -> None:
        if self._end is None:
            self._end = end
            self._pictures = PictureAssembly()

    def _raise_end(self) -> None:
        if isinstance(self._end, Exception):
            raise self._end

    def _next_after(self, number: int, read: int) -> Event | None:
        """The earliest event that is kept and comes after `number`, or tells more of a text than the characters `read`."""
        kept = (self._accepted, self._progress, *self._previews.values(), self._terminal)
        later: list[Event] = [event for event in kept if event is not None and event.number > number]
        if self._output is not None and len(self.text) > read:
            later.append(self._output)
        return min(later, key=lambda event: event.number, default=None)


def _watch_instead(submit: pb.Submit | pb.Predict, job_id: str) -> pb.Watch:
    """A Watch with the wishes of a Submit or a Predict."""
    if isinstance(submit, pb.Predict):
        return pb.Watch(job_id=job_id, progress=submit.progress, output=submit.output)
    return pb.Watch(
        job_id=job_id,
        progress=submit.progress,
        previews=submit.preview_every_steps > 0,
        inline_pictures=submit.inline_pictures,
    )
