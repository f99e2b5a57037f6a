"""What becomes of an accepted job: the engine's events in, the job's states and events out.

What may go well later is retried: the job waits, and begins again from its first step.
A job that this life of the server cannot finish is left: it says no more here, stays in the records as it is, and is taken up by
the next life (server.jobs.recovery).

Everything here runs on the reactor thread. Each live job has one writer (`_Writer`): what has to wait (a record, a picture to
store) is done for it one after the other, in the order in which the engine said it. Progress waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from ai import types as engine
from server.clock import Clock, Pauses, Timer
from server.errors import Code, JobFailure, RecordsUnavailable
from server.events import Phase, Preview, Progress
from server.futures import Tasks
from server.interfaces import Announcer, JobStore, Latents, Painter
from server.job import TERMINAL, Job, JobState, LeaseLost
from server.jobs.board import Board, terminal_event
from server.jobs.fetching import Fetching
from server.jobs.finishing import Finisher
from server.jobs.places import Places
from server.jobs.retrying import Retries

log = structlog.get_logger("atelier.jobs")

_FAILURE_CODES: tuple[tuple[type[engine.EngineError], Code], ...] = (
    (engine.ModelLoadError, Code.MODEL_LOAD_FAILED),
    (engine.AdapterError, Code.ADAPTER_INVALID),
    (engine.OutOfMemory, Code.GPU_OUT_OF_MEMORY),
    (engine.DeadlineExceeded, Code.DEADLINE_EXCEEDED),
    (engine.EngineError, Code.GENERATION_FAILED),
)

_LAST_EVENTS = (engine.Finished, engine.Failed, engine.Canceled)
ABANDON_AFTER = 5.0  # seconds from leaving jobs to stopping without the ends of others being recorded
LOOK_EVERY = 1.0  # seconds between looks at the record of a job that another node runs


class _Writer:
    """One live job, and what is still to be done for it in order.

    `ending` is set, once, by whoever decides how the job ends; from then on it says nothing but its terminal event. One that is
    `left` does not say even that.
    """

    __slots__ = ("deadline", "ending", "job", "left", "left_engine", "previews", "retry", "task", "todo")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.todo: deque[Callable[[], Awaitable[None]]] = deque()
        self.task: asyncio.Task[None] | None = None
        self.deadline: Timer | None = None
        self.retry: Timer | None = None  # when it begins again
        self.ending = False
        self.left = False
        self.left_engine = True  # the engine has said its last of it, or never had it
        self.previews: dict[int, engine.Previewed] = {}  # the latest of each image that is not yet encoded


class Lifecycle:
    """Carries jobs from acceptance to their one terminal event."""

    def __init__(
        self,
        *,
        store: JobStore,
        latents: Latents,
        board: Board,
        painter: Painter,
        finisher: Finisher,
        fetching: Fetching,
        places: Places,
        retries: Retries,
        announcer: Announcer,
        clock: Clock,
    ) -> None:
        self._store = store
        self._latents = latents
        self._board = board
        self._painter = painter
        self._finisher = finisher
        self._fetching = fetching
        self._places = places
        self._retries = retries
        self._announcer = announcer
        self._clock = clock
        self._live: dict[str, _Writer] = {}
        self._tasks = Tasks()
        self._empty: asyncio.Future[None] | None = None
        self._ghosts: dict[
            str, str
        ] = {}  # ended jobs that the engine still has, and their owners: they keep their place
        self._abandoned = False
        self._draining = False  # nothing waits for a retry any more
        self._stopping = False  # whatever begins from now on is left
        self._dead: JobFailure | None = None  # whatever begins from now on ends at once, and so
        self._pauses = Pauses(clock)
        self._last_end = clock.seconds()
        self._seconds_per_job = 1.0
        self.ended = {JobState.SUCCEEDED: 0, JobState.FAILED: 0, JobState.CANCELED: 0}

    # From the handlers

    def begin(self, job: Job, failure: JobFailure | None = None) -> None:
        """Take over a job that was just made durable, or taken up again; with a `failure`, only to end it so."""
        writer = self._live[job.id] = _Writer(job)
        self._board.open(job)
        how = "job.accepted" if job.fence == 1 else "job.taken_up"
        log.info(how, job_id=job.id, owner=job.owner, model=job.request.model)
        if self._stopping:
            self._leave(writer)
        elif failure := failure or self._dead:
            self._end_now(writer, failure)
        else:
            if (left := self._seconds_left(job)) is not None:
                writer.deadline = self._clock.callLater(left, self._overdue, writer)
            if job.fence == 1:
                self._submit(writer)
            else:
                self._then(writer, partial(self._go_on, writer))

    def _seconds_left(self, job: Job) -> float | None:
        """Until its deadline, by the wall clock, which goes on while no server runs."""
        if job.deadline_seconds is None:
            return None
        return max(0.0, job.created_at + job.deadline_seconds - self._clock.seconds())

    async def _go_on(self, writer: _Writer) -> None:
        """Begin where an earlier life was, as far as that was kept."""
        saved = await self._latents.latents(writer.job.id)
        if not writer.ending:
            self._submit(writer, saved)

    def _submit(self, writer: _Writer, saved: tuple[engine.SavedImage, ...] = ()) -> None:
        """Give the job to the engine, after what it wears was fetched; until then it stays queued."""
        if self._fetching.needs(writer.job):
            self._then(writer, partial(self._fetch, writer, saved))
        else:
            self._paint(writer, saved, {})

    async def _fetch(self, writer: _Writer, saved: tuple[engine.SavedImage, ...]) -> None:
        try:
            files = await self._fetching.bring(writer.job)
        except JobFailure as failure:
            if not writer.ending:
                self._fail(writer, failure)
            return
        if writer.ending:
            self._fetching.let_go(writer.job.id)
        elif self._dead is not None:
            self._end_now(writer, self._dead)
        else:
            self._paint(writer, saved, files)

    def _paint(self, writer: _Writer, saved: tuple[engine.SavedImage, ...], files: Mapping[str, str]) -> None:
        job = writer.job
        request = replace(
            job.request, owner=job.owner, deadline_seconds=self._seconds_left(job), saved=saved, adapter_files=files
        )
        writer.left_engine = False
        try:
            self._painter.submit(request)
        except Exception as error:
            writer.left_engine = True
            if isinstance(error, engine.EngineStopped):
                self._end_now(writer, _engine_stopped())
            else:
                self._broke(writer, error)

    def cancel(self, job_id: str) -> None:
        """Stop a job: it ends now, its rows are free at the next step. One that has ended is left alone."""
        writer = self._live.get(job_id)
        if writer is not None:
            self._end_now(writer, None)

    async def drain(self, seconds: float) -> None:
        """Wait until every live job has ended; those that `seconds` do not suffice for are left to the next life."""
        self._draining = True
        for writer in tuple(self._live.values()):
            if writer.retry is not None:
                self._leave(writer)
        if self._live:
            log.info("jobs.draining", jobs=len(self._live), seconds=seconds)
        timers = [
            self._clock.callLater(seconds, self._leave_all),
            self._clock.callLater(seconds + ABANDON_AFTER, self._abandon),
        ]
        while self._live and not self._abandoned:
            self._empty = asyncio.get_running_loop().create_future()
            await self._empty
        self._stopping = True
        self._pauses.stop()
        for timer in timers:
            if timer.active():
                timer.cancel()

    def has(self, job_id: str) -> bool:
        """Whether the job is this node's to run, and has not ended."""
        return job_id in self._live

    @property
    def live(self) -> int:
        """Jobs that have not ended."""
        return len(self._live)

    def live_job(self, job_id: str) -> Job | None:
        """A job that has not ended, as it is recorded."""
        writer = self._live.get(job_id)
        return writer.job if writer else None

    @property
    def waiting(self) -> int:
        """Live jobs that no batch has seated yet."""
        return sum(writer.job.state is JobState.QUEUED for writer in self._live.values())

    def retry_after(self) -> float:
        """Seconds until a place is likely free: the pace at which jobs ended lately."""
        return min(max(self._seconds_per_job, 1.0), 60.0)

    # From the engine

    def engine_events(self, events: Sequence[engine.EngineEvent]) -> None:
        """What happened in one step. What goes wrong for one job is its own."""
        for event in events:
            if isinstance(event, (engine.ModelEvent, engine.HandedBack)):
                continue
            writer = self._live.get(event.request_id)
            if isinstance(event, _LAST_EVENTS):
                self._left_engine(event.request_id, writer)
            if writer is None or writer.ending:
                continue
            try:
                self._hear[type(event)](self, writer, event)
            except Exception as error:
                self._broke(writer, error)

    def engine_died(self, reason: str) -> None:
        """The step loop ended on an error of its own: what it had will not come back."""
        self._dead = JobFailure(Code.GENERATION_FAILED, reason)
        for job_id in tuple(self._ghosts):
            self._left_engine(job_id, None)
        for writer in tuple(self._live.values()):
            if not writer.left_engine:
                writer.left_engine = True
                self._end_now(writer, self._dead)

    def _left_engine(self, job_id: str, writer: _Writer | None) -> None:
        """The engine holds nothing of the job any more."""
        if writer is not None:
            writer.left_engine = True
        elif job_id in self._ghosts:
            self._places.release(self._ghosts.pop(job_id), job_id)

    def _started(self, writer: _Writer, event: engine.Started) -> None:
        self._then(writer, partial(self._move, writer, JobState.STARTING))
        self._then(writer, partial(self._move, writer, JobState.PROCESSING))

    def _stepped(self, writer: _Writer, event: engine.Stepped) -> None:
        self._progress(writer, Phase(event.phase.value), event.step, event.fraction, event.eta_seconds)

    def _parked(self, writer: _Writer, event: engine.Parked) -> None:
        self._progress(writer, Phase.PARKED, event.step, event.fraction, 0.0)

    def _saved(self, writer: _Writer, event: engine.Saved) -> None:
        self._then(writer, partial(self._keep, writer, event))

    def _previewed(self, writer: _Writer, event: engine.Previewed) -> None:
        waiting = event.image_index in writer.previews
        writer.previews[event.image_index] = event
        if not waiting:
            self._then(writer, partial(self._preview, writer, event.image_index))

    def _finished(self, writer: _Writer, event: engine.Finished) -> None:
        self._progress(writer, Phase.FINISHING, _steps_of(writer.job), 1.0, 0.0)
        self._then(writer, partial(self._finish, writer, event))

    def _failed(self, writer: _Writer, event: engine.Failed) -> None:
        code = next(code for kind, code in _FAILURE_CODES if isinstance(event.error, kind))
        self._fail(writer, JobFailure(code, str(event.error)))

    def _canceled(self, writer: _Writer, event: engine.Canceled) -> None:
        """We did not ask for it, or the job would not be live: the engine was stopped."""
        self._end_now(writer, _engine_stopped())

    _hear: dict[type, Callable[..., None]] = {  # noqa: RUF012  # a table, never written to
        engine.Started: _started,
        engine.Stepped: _stepped,
        engine.Parked: _parked,
        engine.Saved: _saved,
        engine.Previewed: _previewed,
        engine.Finished: _finished,
        engine.Failed: _failed,
        engine.Canceled: _canceled,
    }

    # One after the other, for one job

    def _then(self, writer: _Writer, work: Callable[[], Awaitable[None]]) -> None:
        writer.todo.append(work)
        if writer.task is None:
            writer.task = asyncio.ensure_future(self._work(writer))

    async def _work(self, writer: _Writer) -> None:
        while writer.todo and not writer.ending:
            work = writer.todo.popleft()
            try:
                await work()
            except LeaseLost:
                self._lose(writer)
            except RecordsUnavailable:
                self._leave(writer)
            except Exception as error:
                if not writer.ending:  # or an end that was faster has made it impossible
                    self._broke(writer, error)
        writer.task = None

    async def _move(self, writer: _Writer, state: JobState, failure: JobFailure | None = None) -> None:
        number = self._board.last_number(writer.job)
        writer.job = await self._move_to(replace(writer.job, state=state, last_event=number, failure=failure))
        log.info("job.state", job_id=writer.job.id, state=state.value)

    def _fail(self, writer: _Writer, failure: JobFailure) -> None:
        """End a job that the engine has no more, unless it may go well later."""
        delay = self._retries.delay(writer.job, failure)
        if delay is None:
            self._end_now(writer, failure)
        else:
            self._then(writer, partial(self._retry, writer, failure, delay))

    async def _retry(self, writer: _Writer, failure: JobFailure, delay: float) -> None:
        self._fetching.let_go(writer.job.id)
        log.warning("job.retried", job_id=writer.job.id, code=failure.code.name, reason=failure.message, delay=delay)
        await self._move(writer, JobState.RETRYING, failure)
        if writer.ending:
            return
        self._progress(writer, Phase.RETRYING, 0, 0.0, delay)
        if self._draining:
            self._leave(writer)
        else:
            writer.retry = self._clock.callLater(delay, self._begin_again, writer)

    def _begin_again(self, writer: _Writer) -> None:
        writer.retry = None
        self._then(writer, partial(self._queue_anew, writer))

    async def _queue_anew(self, writer: _Writer) -> None:
        await self._move(writer, JobState.QUEUED)
        if writer.ending:
            return
        self._progress(writer, Phase.QUEUED, 0, 0.0, 0.0)
        self._submit(writer)

    async def _keep(self, writer: _Writer, event: engine.Saved) -> None:
        """Keep what would else be painted anew; a stopping server leaves the job to the next life with that."""
        try:
            await self._latents.keep_latents(writer.job.id, event.images, fence=writer.job.fence)
        except RecordsUnavailable as error:
            log.warning("job.not_saved", job_id=writer.job.id, reason=error.reason)
        if self._stopping:
            self._leave(writer)

    async def _preview(self, writer: _Writer, image_index: int) -> None:
        event = writer.previews.pop(image_index)
        try:
            png = await self._finisher.preview(event.width, event.height, event.rgb)
        except Exception:  # a look on the way is worth no job's life
            log.exception("job.preview_failed", job_id=writer.job.id)
            return
        if not writer.ending:
            number = self._board.next_number(writer.job.id)
            self._board.publish(
                Preview(number=number, job_id=writer.job.id, image_index=image_index, step=event.step, png=png)
            )

    async def _finish(self, writer: _Writer, event: engine.Finished) -> None:
        try:
            artifacts, warnings = await self._finisher.finish(writer.job, event)
        except JobFailure as failure:
            if not writer.ending:
                self._fail(writer, failure)
            return
        if not writer.ending:
            writer.ending = True
            await self._end(writer, JobState.SUCCEEDED, replace(writer.job, artifacts=artifacts, warnings=warnings))
        elif not writer.left:  # a cancel or a deadline was faster
            await self._finisher.discard(artifacts)

    # The end, which comes once

    def _end_now(self, writer: _Writer, failure: JobFailure | None) -> None:
        """Fail (or, without a failure, cancel) a job whatever is under way for it, unless its end is under way."""
        if writer.ending:
            return
        writer.ending = True
        self._painter.cancel(writer.job.id)
        state = JobState.CANCELED if failure is None else JobState.FAILED
        self._tasks.start(self._end(writer, state, replace(writer.job, failure=failure)))

    def _broke(self, writer: _Writer, error: Exception) -> None:
        log.error("job.broken", job_id=writer.job.id, exc_info=error)
        self._end_now(writer, JobFailure(Code.INTERNAL_ERROR, f"the server erred: {type(error).__name__}"))

    async def _end(self, writer: _Writer, state: JobState, job: Job) -> None:
        """Record the terminal state, then tell it: in this order, so that what was told stays true."""
        number = self._board.next_number(job.id)
        try:
            ended = await self._record_end(replace(job, state=state, last_event=number))
        except LeaseLost:
            self._lose(writer)
            return
        except RecordsUnavailable:  # the server stops, and the records do not come back in time
            self._give_up(writer)
            return
        self._let_go(writer)
        self.ended[ended.state] += 1
        self._note_pace()
        reason = {"code": ended.failure.code.name, "reason": ended.failure.message} if ended.failure else {}
        log.info("job.ended", job_id=job.id, state=ended.state.value, **reason)
        self._board.close(terminal_event(ended))
        if state is JobState.SUCCEEDED and ended.state is JobState.FAILED:
            await self._finisher.discard(job.artifacts)

    def _let_go(self, writer: _Writer) -> None:
        """The job is ours no more."""
        job = writer.job
        del self._live[job.id]
        self._fetching.let_go(job.id)
        for timer in (writer.deadline, writer.retry):
            if timer is not None and timer.active():
                timer.cancel()
        if writer.left_engine:
            self._places.release(job.owner, job.id)
        else:  # or whoever submits and cancels in a loop could fill the engine's inbox past every limit
            self._ghosts[job.id] = job.owner
        if self._empty is not None and not self._live and not self._empty.done():
            self._empty.set_result(None)

    async def _record_end(self, job: Job) -> Job:
        """The job as recorded; where its end cannot be recorded, it has failed, and if need be only says so."""
        try:
            return await self._move_to(job)
        except (LeaseLost, RecordsUnavailable):
            raise
        except Exception:
            log.exception("job.unrecorded", job_id=job.id, state=job.state.value)
        failure = JobFailure(Code.INTERNAL_ERROR, "the job's end could not be recorded")
        failed = replace(job, state=JobState.FAILED, failure=failure, artifacts=())
        try:
            return await self._move_to(failed)
        except (LeaseLost, RecordsUnavailable):
            raise
        except Exception:
            log.exception("job.unrecorded", job_id=job.id, state=failed.state.value)
            return replace(failed, completed_at=self._clock.seconds())

    async def _move_to(self, job: Job) -> Job:
        at = self._clock.seconds()
        told = replace(job, completed_at=at) if job.state in TERMINAL else job
        return await self._store.move(
            job.id,
            job.state,
            fence=job.fence,
            at=at,
            calls=self._announcer.calls(told),
            last_event=job.last_event,
            artifacts=job.artifacts,
            warnings=job.warnings,
            failure=job.failure,
        )

    def _note_pace(self) -> None:
        now = self._clock.seconds()
        self._seconds_per_job += (now - self._last_end - self._seconds_per_job) / 10  # about the last ten jobs count
        self._last_end = now

    def _progress(self, writer: _Writer, phase: Phase, step: int, fraction: float, eta_seconds: float) -> None:
        number = self._board.next_number(writer.job.id)
        self._board.publish(
            Progress(
                number=number,
                job_id=writer.job.id,
                phase=phase,
                step=step,
                total_steps=_steps_of(writer.job),
                fraction=fraction,
                eta_seconds=eta_seconds,
            )
        )

    # When it takes too long

    def _overdue(self, writer: _Writer) -> None:
        seconds = writer.job.deadline_seconds
        self._end_now(writer, JobFailure(Code.DEADLINE_EXCEEDED, f"not done {seconds:g} s after it was accepted"))

    # Left to the next life, or to another node

    def _leave_all(self) -> None:
        """What the engine has is saved first: it answers at the next step."""
        self._stopping = True
        for writer in tuple(self._live.values()):
            if writer.left_engine:
                self._leave(writer)
            else:
                self._painter.save(writer.job.id)

    def _leave(self, writer: _Writer) -> None:
        """Say no more of a job, which stays in the records as it is, unless its end is under way."""
        if writer.ending:
            return
        self._painter.cancel(writer.job.id)
        self._give_up(writer)

    def _give_up(self, writer: _Writer) -> None:
        writer.ending = writer.left = True
        log.info("job.left", job_id=writer.job.id)
        self._let_go(writer)
        self._board.take_down(writer.job.id)

    def _lose(self, writer: _Writer) -> None:
        """Another node has taken the job up while we could not renew its lease; those who follow it here hear its end."""
        if writer.left or writer.job.id not in self._live:
            return
        writer.ending = writer.left = True
        self._painter.cancel(writer.job.id)
        log.warning("job.lost", job_id=writer.job.id)
        self._let_go(writer)
        self._tasks.start(self._watch_record(writer.job.id))

    async def _watch_record(self, job_id: str) -> None:
        while await self._pauses.take(LOOK_EVERY):
            with suppress(RecordsUnavailable):
                job = await self._store.get(job_id)
                if job is None:
                    self._board.take_down(job_id)
                    return
                if job.state in TERMINAL:
                    self._board.close(terminal_event(job))
                    return

    def _abandon(self) -> None:
        """Their ends could not be recorded: the server stops all the same, and the next life finds them as they were."""
        for writer in tuple(self._live.values()):
            self._leave(writer)
        self._abandoned = True
        if self._live:
            log.error("jobs.abandoned", jobs=list(self._live))
        if self._empty is not None and not self._empty.done():
            self._empty.set_result(None)


def _steps_of(job: Job) -> int:
    return job.request.num_inference_steps - job.request.first_step


def _engine_stopped() -> JobFailure:
    return JobFailure(Code.UNAVAILABLE, "the engine stopped before the job was done; submit it again")
