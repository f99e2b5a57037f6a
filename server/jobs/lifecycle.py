"""The way of an accepted job: the engine's events in, the job's states and events out.

    begin → fetch what it wears → give it to the engine → started, steps, previews → finished → pictures stored → ended
                                | as the same was before      … or pieces of a text → answered → ended
    what may go well later is retried: the job waits, and begins again from its first step; or, where its pictures could not be
    stored and there is room to keep them, from there

What a live job still has to do is kept by `live`, what is recorded and said on the way by `transitions`; how a job ends is
`endings`, and how it does not end here, `leaving`. Everything runs on the reactor thread, and progress waits for nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from ai import types as engine
from server.clock import Clock
from server.errors import Code, JobFailure, RecordsUnavailable
from server.events import Phase
from server.interfaces import Announcer, JobStore, Latents, Painter
from server.job import Job, JobState, LeaseLost
from server.jobs.again import Again
from server.jobs.answers import Answers
from server.jobs.board import Board
from server.jobs.endings import Endings
from server.jobs.failures import engine_stopped, failure_of
from server.jobs.fetching import Fetching
from server.jobs.finishing import Finisher
from server.jobs.leaving import Leaving
from server.jobs.live import LiveJob, LiveJobs
from server.jobs.places import Places
from server.jobs.retrying import Retries
from server.jobs.transitions import Transitions

log = structlog.get_logger("atelier.jobs")

_LAST_EVENTS = (engine.Finished, engine.Answered, engine.Failed, engine.Canceled)


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
        unstored_bytes: int,
        announcer: Announcer,
        clock: Clock,
        answers: Answers | None = None,
    ) -> None:
        self._latents = latents
        self._board = board
        self._painter = painter
        self._finisher = finisher
        self._fetching = fetching
        self._retries = retries
        self._unstored_bytes = unstored_bytes  # of pictures that wait to be stored; beyond, they are painted again
        self._clock = clock
        self._jobs = LiveJobs(places, fetching)
        self._transitions = Transitions(store, board, announcer, clock)
        self._leaving = Leaving(jobs=self._jobs, store=store, board=board, painter=painter, clock=clock)
        self._endings = Endings(
            jobs=self._jobs,
            transitions=self._transitions,
            leaving=self._leaving,
            board=board,
            painter=painter,
            finisher=finisher,
            clock=clock,
            answers=answers,
        )
        self._again = None if answers is None else Again(answers, finisher, self._transitions, self._endings)
        self._dead: JobFailure | None = None  # whatever begins from now on ends at once, and so

    # How things stand

    def has(self, job_id: str) -> bool:
        """Whether the job is this node's to run, and has not ended."""
        return job_id in self._jobs

    def live_job(self, job_id: str) -> Job | None:
        """A job that has not ended, as it is recorded."""
        live = self._jobs.get(job_id)
        return live.job if live else None

    @property
    def live(self) -> int:
        """Jobs that have not ended."""
        return len(self._jobs)

    def by_state(self) -> Counter[JobState]:
        """How many live jobs are in each state."""
        return Counter(live.job.state for live in self._jobs)

    @property
    def waiting(self) -> int:
        """Live jobs that no batch has seated yet."""
        return self._jobs.waiting

    @property
    def ended(self) -> Mapping[JobState, int]:
        """How many have ended, and so."""
        return self._endings.ended

    def retry_after(self) -> float:
        """Seconds until a place is likely free."""
        return self._endings.retry_after()

    # From the handlers

    def begin(self, job: Job, failure: JobFailure | None = None) -> None:
        """Take over a job that was just made durable, or taken up again; with a `failure`, only to end it so."""
        live = LiveJob(job, self._in_trouble)
        self._jobs.add(live)
        self._board.open(job)
        how = "job.accepted" if job.fence == 1 else "job.taken_up"
        log.info(how, job_id=job.id, owner=job.owner, model=job.request.model)
        if self._leaving.stopping:
            self._leaving.leave(live)
        elif failure := failure or self._dead:
            self._endings.now(live, failure)
        else:
            if (left := self._seconds_left(job)) is not None:
                live.deadline = self._clock.callLater(left, self._overdue, live)
            if job.fence == 1:
                self._submit(live)
            else:
                live.then(partial(self._go_on, live))

    def cancel(self, job_id: str) -> None:
        """Stop a job: it ends now, its rows are free at the next step. One that has ended is left alone."""
        live = self._jobs.get(job_id)
        if live is not None:
            self._endings.now(live, None)

    @property
    def ids(self) -> frozenset[str]:
        """Of the jobs that have not ended, and whose end is not under way."""
        return frozenset(live.job.id for live in self._jobs if not live.ending)

    def lose(self, job_id: str) -> None:
        """Another node has taken the job; those who follow it here hear its end."""
        live = self._jobs.get(job_id)
        if live is not None and not live.ending:
            self._leaving.lose(live)

    async def drain(self, seconds: float) -> None:
        """Wait until every live job has ended; those that `seconds` do not suffice for are left to the next life."""
        await self._leaving.drain(seconds)

    def _in_trouble(self, live: LiveJob, error: Exception) -> None:
        """What a piece of its work raised."""
        if isinstance(error, LeaseLost):
            self._leaving.lose(live)
        elif isinstance(error, RecordsUnavailable):
            self._leaving.leave(live)
        elif not live.ending:  # or an end that was faster has made it impossible
            self._endings.broken(live, error)

    def _overdue(self, live: LiveJob) -> None:
        seconds = live.job.deadline_seconds
        self._endings.now(live, JobFailure(Code.DEADLINE_EXCEEDED, f"not done {seconds:g} s after it was accepted"))

    def _seconds_left(self, job: Job) -> float | None:
        """Until its deadline, by the wall clock, which goes on while no server runs."""
        if job.deadline_seconds is None:
            return None
        return max(0.0, job.created_at + job.deadline_seconds - self._clock.seconds())

    # To the engine

    async def _go_on(self, live: LiveJob) -> None:
        """Begin where an earlier life was, as far as that was kept."""
        saved = await self._latents.latents(live.job.id)
        if not live.ending:
            self._submit(live, saved)

    def _submit(self, live: LiveJob, saved: tuple[engine.SavedImage, ...] = ()) -> None:
        """Give the job to the engine, after what it wears was fetched; until then it stays queued."""
        if self._fetching.needs(live.job):
            live.then(partial(self._fetch, live, saved))
        else:
            self._look(live, saved, {})

    async def _fetch(self, live: LiveJob, saved: tuple[engine.SavedImage, ...]) -> None:
        try:
            files = await self._fetching.bring(live.job)
        except JobFailure as failure:
            if not live.ending:
                self._fail(live, failure)
            return
        if live.ending:
            self._fetching.let_go(live.job.id)
        elif self._dead is not None:
            self._endings.now(live, self._dead)
        else:
            self._look(live, saved, files)

    def _look(self, live: LiveJob, saved: tuple[engine.SavedImage, ...], files: Mapping[str, str]) -> None:
        """Whether the same was answered before; what was begun is gone on with."""
        if self._again is None or saved:
            self._paint(live, saved, files)
        else:
            live.then(partial(self._paint_new, live, files))

    async def _paint_new(self, live: LiveJob, files: Mapping[str, str]) -> None:
        if self._again is not None and not await self._again.answered(live, files) and not live.ending:
            if self._dead is not None:
                self._endings.now(live, self._dead)
            else:
                self._paint(live, (), files)

    def _paint(self, live: LiveJob, saved: tuple[engine.SavedImage, ...], files: Mapping[str, str]) -> None:
        job = live.job
        given: dict[str, Any] = {"owner": job.owner, "deadline_seconds": self._seconds_left(job)}
        if isinstance(job.request, engine.GenerationRequest):
            given |= {"saved": saved, "adapter_files": files}
        request = replace(job.request, **given)
        live.left_engine = False
        try:
            self._painter.submit(request)
        except Exception as error:
            live.left_engine = True
            if isinstance(error, engine.EngineStopped):
                self._endings.now(live, engine_stopped())
            else:
                self._endings.broken(live, error)

    # From the engine

    def engine_events(self, events: Sequence[engine.EngineEvent]) -> None:
        """What happened in one step. What goes wrong for one job is its own."""
        for event in events:
            if isinstance(event, (engine.ModelEvent, engine.HandedBack)):
                continue
            if isinstance(event, _LAST_EVENTS):
                self._jobs.left_engine(event.request_id)
            live = self._jobs.get(event.request_id)
            if live is None or live.ending:
                continue
            try:
                self._hear[type(event)](self, live, event)
            except Exception as error:
                self._endings.broken(live, error)

    def engine_died(self, reason: str) -> None:
        """The step loop ended on an error of its own: what it had will not come back."""
        self._dead = JobFailure(Code.GENERATION_FAILED, reason)
        self._jobs.engine_died()
        for live in self._jobs:
            if not live.left_engine:
                live.left_engine = True
                self._endings.now(live, self._dead)

    def _started(self, live: LiveJob, event: engine.Started) -> None:
        self._transitions.begin(live)

    def _stepped(self, live: LiveJob, event: engine.Stepped) -> None:
        self._transitions.progress(live, Phase(event.phase.value), event.step, event.fraction, event.eta_seconds)

    def _parked(self, live: LiveJob, event: engine.Parked) -> None:
        self._transitions.progress(live, Phase.PARKED, event.step, event.fraction, 0.0)

    def _saved(self, live: LiveJob, event: engine.Saved) -> None:
        live.then(partial(self._keep, live, event))

    def _previewed(self, live: LiveJob, event: engine.Previewed) -> None:
        waiting = event.image_index in live.previews
        live.previews[event.image_index] = event
        if not waiting:
            live.then(partial(self._preview, live, event.image_index))

    def _finished(self, live: LiveJob, event: engine.Finished) -> None:
        self._transitions.progress(live, Phase.FINISHING, live.steps, 1.0, 0.0)
        live.then(partial(self._finish, live, event))

    def _spoke(self, live: LiveJob, event: engine.Spoke) -> None:
        self._transitions.output(live, event.offset, event.text)

    def _answered(self, live: LiveJob, event: engine.Answered) -> None:
        live.then(partial(self._answer, live, event))

    def _failed(self, live: LiveJob, event: engine.Failed) -> None:
        self._fail(live, failure_of(event.error))

    def _canceled(self, live: LiveJob, event: engine.Canceled) -> None:
        """We did not ask for it, or the job would not be live: the engine was stopped."""
        self._endings.now(live, engine_stopped())

    _hear: dict[type, Callable[..., None]] = {  # noqa: RUF012  # a table, never written to
        engine.Started: _started,
        engine.Stepped: _stepped,
        engine.Parked: _parked,
        engine.Saved: _saved,
        engine.Previewed: _previewed,
        engine.Spoke: _spoke,
        engine.Finished: _finished,
        engine.Answered: _answered,
        engine.Failed: _failed,
        engine.Canceled: _canceled,
    }

    # What has to wait, one after the other for one job

    async def _keep(self, live: LiveJob, event: engine.Saved) -> None:
        """Keep what would else be painted anew; a stopping server leaves the job to the next life with that."""
        try:
            await self._latents.keep_latents(live.job.id, event.images, fence=live.job.fence)
        except RecordsUnavailable as error:
            log.warning("job.not_saved", job_id=live.job.id, reason=error.reason)
        if self._leaving.stopping:
            self._leaving.leave(live)

    async def _preview(self, live: LiveJob, image_index: int) -> None:
        event = live.previews.pop(image_index)
        try:
            png = await self._finisher.preview(event.width, event.height, event.rgb)
        except Exception:  # a look on the way is worth no job's life
            log.exception("job.preview_failed", job_id=live.job.id)
            return
        if not live.ending:
            self._transitions.preview(live, image_index, event.step, png)

    async def _finish(self, live: LiveJob, event: engine.Finished) -> None:
        try:
            artifacts, warnings = await self._finisher.finish(live.job, event)
        except JobFailure as failure:
            if not live.ending:
                if (
                    failure.code is Code.STORAGE_FAILED
                    and self._jobs.unstored_bytes + event.size <= self._unstored_bytes
                ):
                    live.unstored = event
                self._fail(live, failure)
            return
        if not live.ending:
            await self._endings.succeeded(live, artifacts, warnings)
        elif not live.left:  # a cancel or a deadline was faster
            await self._finisher.discard(artifacts)

    async def _answer(self, live: LiveJob, event: engine.Answered) -> None:
        if not live.ending:
            await self._endings.answered(live, event)

    # Once more

    def _fail(self, live: LiveJob, failure: JobFailure) -> None:
        """End a job that the engine has no more, unless it may go well later."""
        delay = self._retries.delay(live.job, failure)
        if delay is None:
            self._endings.now(live, failure)
        else:
            live.then(live.is_begun)
            live.then(partial(self._retry, live, failure, delay))

    async def _retry(self, live: LiveJob, failure: JobFailure, delay: float) -> None:
        self._fetching.let_go(live.job.id)
        log.warning("job.retried", job_id=live.job.id, code=failure.code.name, reason=failure.message, delay=delay)
        await self._transitions.move(live, JobState.RETRYING, failure)
        if live.ending:
            return
        self._transitions.progress(live, Phase.RETRYING, 0, 0.0, delay)
        if self._leaving.draining:
            self._leaving.leave(live)
        else:
            live.retry = self._clock.callLater(delay, self._begin_again, live)

    def _begin_again(self, live: LiveJob) -> None:
        live.retry = None
        live.then(partial(self._queue_anew, live))

    async def _queue_anew(self, live: LiveJob) -> None:
        await self._transitions.move(live, JobState.QUEUED)
        if live.ending:
            return
        painted, live.unstored = live.unstored, None
        if painted is None:
            self._transitions.progress(live, Phase.QUEUED, 0, 0.0, 0.0)
            self._submit(live)
        else:
            self._started(live, engine.Started(live.job.id))
            self._finished(live, painted)
