"""The engine of one device: a loop that denoises all samples together, a step at a time.

Any thread may call `submit`, `cancel`, `load`, `stop` and `numbers`; everything else happens in `run`, on the one
thread that `start` schedules it on. One lock covers the inbox and the loop's decision to end, so a letter put into
the inbox is either seen by the running loop or starts a new one.

This module imports no torch, so that a server can listen before it is loaded; the loop imports it at its start.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ai.batching import Group, TakeTurns
from ai.cards import ModelCard
from ai.failures import as_engine_error
from ai.shelf import Shelf, load_by_family
from ai.types import (
    AdapterError,
    Canceled,
    Deliver,
    EngineError,
    EngineEvent,
    EngineNumbers,
    EngineSettings,
    EngineStopped,
    Failed,
    GenerationError,
    GenerationRequest,
    Previewed,
    Started,
)
from ai.work import Sample, Work

if TYPE_CHECKING:
    from ai.families.family import LoadModel, Model
    from ai.stepping import Row, Stepper

log = logging.getLogger(__name__)

# Share of the newest step in the pace that eta_seconds is computed from: about the last five steps count.
PACE_SMOOTHING = 0.2

Letter = Callable[[], None]
"""What another thread wants of the loop: called on the loop's thread, between two steps."""


class Engine:
    """Paints requests for the models of `cards` on one device.

    `start` must arrange for `run()` to be called soon, on the engine's one thread (or at once, in a test). It is
    called exactly when there is work and no loop is running. `deliver` gets, on the loop's thread, what happened.

    A model is loaded when a request first names it, and is then kept. While it loads nothing is stepped. A model that
    failed to load fails its requests with the same error; after `ai.shelf.RETRY_SECONDS` a request tries again. So it is
    with adapters, except that one which failed is tried again when its files have changed.

    After `stop()` the loop ends at the next step boundary, and every request still there gets Canceled; it cannot be
    started again. If `start` was called and `run` is never reached, nobody is told anything.
    """

    def __init__(
        self,
        cards: Sequence[ModelCard],
        settings: EngineSettings,
        start: Callable[[], None],
        deliver: Deliver,
        *,
        load_model: LoadModel = load_by_family,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._start = start
        self._deliver = deliver
        self._clock = clock
        # Shared between threads, under the lock.
        self._lock = threading.Lock()
        self._inbox: list[Letter] = []
        self._looping = False
        self._stopping = False
        self._known: set[str] = set()  # request ids from submit to their last event
        self._submitted = 0  # samples in the inbox
        self._numbers = EngineNumbers()
        # The loop's own.
        self._policy = TakeTurns(settings.max_batch)
        self._shelf = Shelf(cards, settings, load_model, clock, self._emit)
        self._works: dict[str, Work] = {}
        self._samples: list[Sample] = []  # in order of arrival
        self._steppers: dict[Group, Stepper] = {}
        self._pace: dict[Group, float] = {}  # seconds a step, smoothed
        self._events: list[EngineEvent] = []
        self._arrivals = 0

    # From any thread.

    def submit(self, request: GenerationRequest) -> None:
        """Take in a request; it joins at the next step boundary.

        Raises ValueError for a request id that is in the engine, EngineStopped after `stop()`, and whatever `start`
        raises: then the request stays in the inbox, and the next letter tries to start the loop again.
        """
        with self._lock:
            if self._stopping:
                raise EngineStopped("the engine is stopping and takes no more requests")
            if request.request_id in self._known:
                raise ValueError(f"request_id: {request.request_id!r} is in the engine already")
            self._known.add(request.request_id)
            self._submitted += request.num_images
            self._inbox.append(lambda: self._admit(request))
            wake = self._wakes()
        self._wake(wake)

    def cancel(self, request_id: str) -> None:
        """Give up a request at the next step boundary. One that is not in the engine (any more) is ignored."""
        with self._lock:
            if request_id in self._known:
                self._inbox.append(lambda: self._cancel([request_id]))

    def load(self, model: str) -> None:
        """Load a model ahead of its first request, or try again one that failed. ModelReady or ModelUnavailable
        follows, unless it is in memory."""
        with self._lock:
            if self._stopping:
                return
            self._inbox.append(lambda: self._load(model))
            wake = self._wakes()
        self._wake(wake)

    def stop(self) -> None:
        """End the loop at the next step boundary; what is in the engine gets Canceled."""
        with self._lock:
            self._stopping = True

    def numbers(self) -> EngineNumbers:
        """What was measured up to the last step."""
        with self._lock:
            return replace(self._numbers, waiting=self._numbers.waiting + self._submitted)

    def _wakes(self) -> bool:
        wake, self._looping = not self._looping, True
        return wake

    def _wake(self, wake: bool) -> None:
        if not wake:
            return
        try:
            self._start()  # outside the lock: a synchronous `start` runs the whole loop here
        except BaseException:
            with self._lock:
                self._looping = False  # the letter stays in the inbox; whoever comes next tries again
            raise

    # On the loop's thread.

    def run(self) -> None:
        """The step loop: returns when there are no samples and no letters. Called by what `start` scheduled."""
        try:
            # Importing torch takes seconds: done on the engine's own thread, the first time there is work for it.
            from ai.device import working_on

            with working_on(self._settings) as device:
                with self._lock:
                    self._numbers = replace(self._numbers, device=device)
                while self._take_in():
                    self._turn()
                    self._hand_over()
        except Exception as error:
            log.exception("the engine's loop failed")
            self._give_up(error)

    def _turn(self) -> None:
        """Decode what made its last step in the turn before, then one forward pass for the samples whose turn it is."""
        painted = [sample for sample in self._samples if sample.painted]
        for group in dict.fromkeys(sample.group for sample in painted):
            self._guarded(self._finish, group, [sample for sample in painted if sample.group == group])
        samples = self._policy.next_step([sample for sample in self._samples if not sample.painted])
        if samples and self._guarded(self._ready, samples[0].group, samples):
            self._guarded(self._step_together, samples[0].group, samples)

    def _guarded(
        self, work: Callable[[Group, Sequence[Sample]], bool], group: Group, samples: Sequence[Sample]
    ) -> bool:
        """What `work` says of samples of one group; False after an error, which is all these samples' own: a model or
        an adapter that will not load, or a mistake in here."""
        try:
            return work(group, samples)
        except Exception as error:
            if not isinstance(error, EngineError):
                log.exception("a turn of the engine's loop failed")
            self._fail([sample.work for sample in samples], error)
            return False

    def _step_together(self, group: Group, samples: Sequence[Sample]) -> bool:
        stepper = self._stepper(group)
        stepper.model.wear(group.adapters)
        self._step(stepper, self._seat(stepper.model, samples))
        return True

    def _ready(self, group: Group, samples: Sequence[Sample]) -> bool:
        """Whether the group's model is in memory. If not it is loaded, which is all that is done in this turn."""
        there = group.model in self._shelf
        self._shelf.get(group.model)
        return there

    def _stepper(self, group: Group) -> Stepper:
        from ai.stepping import Stepper

        if group not in self._steppers:
            self._steppers[group] = Stepper(self._shelf.get(group.model))
        return self._steppers[group]

    def _seat(self, model: Model, samples: Sequence[Sample]) -> list[Sample]:
        """Give the newcomers their rows of tensors. A request that fails at that fails alone."""
        for sample in samples:
            if sample.row is None and self._alive(sample):
                try:
                    self._open(model, sample)
                except Exception as error:
                    self._fail([sample.work], error)
        return [sample for sample in samples if self._alive(sample)]

    def _open(self, model: Model, sample: Sample) -> None:
        from ai.stepping import open_row

        work = sample.work
        work.prompted = work.prompted or model.prompt(work.request)
        sample.row = open_row(model, work.request, sample.index, work.prompted)
        if not work.started:
            work.started = True
            self._emit(Started(work.request.request_id))

    def _step(self, stepper: Stepper, samples: Sequence[Sample]) -> None:
        """Move all samples one step on, and tell of it."""
        if not samples:
            return
        group, rows = samples[0].group, [_row(sample) for sample in samples]
        began = self._clock()
        failures = stepper.step(rows)
        self._note_step(group, len(rows), self._clock() - began)
        for sample in samples:
            if sample.row in failures:
                self._fail([sample.work], failures[_row(sample)])
        moved = [sample for sample in samples if self._alive(sample)]
        seconds_per_turn = self._pace[group] * len(self._steppers)
        for work in dict.fromkeys(sample.work for sample in moved):
            self._emit(work.stepped(seconds_per_turn))
        self._preview(stepper, [sample for sample in moved if sample.wants_preview])

    def _preview(self, stepper: Stepper, samples: Sequence[Sample]) -> None:
        if not samples:
            return
        try:
            painted = stepper.preview([_row(sample) for sample in samples])
        except Exception:  # a look on the way is worth no request's life
            log.exception("a preview failed")
            return
        for sample, (width, height, rgb) in zip(samples, painted, strict=True):
            request_id, step = sample.work.request.request_id, _row(sample).step
            self._emit(Previewed(request_id, sample.index, step, width, height, rgb))

    def _finish(self, group: Group, samples: Sequence[Sample]) -> bool:
        """Decode what made its last step; end the requests that are complete."""
        pictures, failures = self._stepper(group).decode([_row(sample) for sample in samples])
        for sample in samples:
            row = _row(sample)
            if row in failures:
                self._fail([sample.work], failures[row])
            else:
                sample.work.keep_picture(sample, pictures[row])
        self._samples = [sample for sample in self._samples if sample.picture is None]
        for work in dict.fromkeys(sample.work for sample in samples):
            if work.complete and self._drop(work):
                self._emit(work.finished())
        return True

    # The letters.

    def _take_in(self) -> bool:
        """Read the inbox. False if there is nothing to do any more: then the loop has ended, in the lock's eyes too."""
        with self._lock:
            letters, self._inbox, self._submitted = self._inbox, [], 0
            self._looping = bool(letters or self._works)
            if not self._looping:
                return False
            stopping = self._stopping
        for letter in letters:
            letter()
        if stopping:
            self._cancel(list(self._works))
        return True

    def _admit(self, request: GenerationRequest) -> None:
        work = self._works[request.request_id] = Work(request)
        try:
            _check(request, self._shelf.card(request.model))
        except EngineError as error:
            self._fail([work], error)
        else:
            work.add_samples(self._arrivals)
            self._arrivals += len(work.samples)
            self._samples += work.samples

    def _cancel(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            if request_id in self._works and self._drop(self._works[request_id]):
                self._emit(Canceled(request_id))

    def _load(self, model: str) -> None:
        try:
            self._shelf.get(model, try_again=True)
        except EngineError as error:
            log.info("load: %s", error)  # whoever asked hears of it by ModelUnavailable

    # The ends of requests, and what is told.

    def _alive(self, sample: Sample) -> bool:
        return sample.work.request.request_id in self._works

    def _fail(self, works: Iterable[Work], error: Exception) -> None:
        for work in dict.fromkeys(works):
            if self._drop(work):
                self._emit(Failed(work.request.request_id, as_engine_error(error)))

    def _drop(self, work: Work) -> bool:
        """Let go of a request and its rows. False if it has gone before."""
        if self._works.pop(work.request.request_id, None) is None:
            return False
        self._samples = [sample for sample in self._samples if sample.work is not work]
        with self._lock:
            self._known.discard(work.request.request_id)
        return True

    def _give_up(self, error: Exception) -> None:
        """Fail all there is, then end the loop; the next letter starts it again."""
        while True:
            with self._lock:
                letters, self._inbox, self._submitted = self._inbox, [], 0
                self._looping = bool(letters or self._works)
                if not self._looping:
                    break
            for letter in letters:
                letter()
            self._fail(list(self._works.values()), error)
            self._hand_over()
        self._hand_over()

    def _emit(self, event: EngineEvent) -> None:
        self._events.append(event)

    def _note_step(self, group: Group, batch: int, seconds: float) -> None:
        before = self._pace.get(group, seconds)
        self._pace[group] = before + PACE_SMOOTHING * (seconds - before)
        with self._lock:
            steps = self._numbers.steps + 1
            self._numbers = replace(self._numbers, last_batch=batch, steps=steps, step_seconds=seconds)

    def _hand_over(self) -> None:
        """Publish the numbers and deliver the turn's events; forget the groups that nobody is left of."""
        present = {sample.group for sample in self._samples}
        self._steppers = {group: stepper for group, stepper in self._steppers.items() if group in present}
        self._pace = {group: pace for group, pace in self._pace.items() if group in present}
        running = sum(sample.running for sample in self._samples)
        with self._lock:
            self._numbers = replace(self._numbers, running=running, waiting=len(self._samples) - running)
        events, self._events = self._events, []
        if events:
            try:
                self._deliver(events)
            except Exception:
                log.exception("deliver failed; %d events are lost", len(events))


def _row(sample: Sample) -> Row:
    assert sample.row is not None, "a sample without a seat has no row"
    return sample.row


def _check(request: GenerationRequest, card: ModelCard) -> None:
    """What the engine itself cannot do without; the limits of a server are checked by whoever made the request."""
    for name, value in (("width", request.width), ("height", request.height)):
        if value < card.min_size or value % card.size_multiple:
            raise GenerationError(
                f"{name}: must be a multiple of {card.size_multiple} and at least {card.min_size}, is {value}"
            )
    if request.num_images < 1:
        raise GenerationError(f"num_images: must be at least 1, is {request.num_images}")
    for use in request.adapters:
        if use.name not in card.adapters:
            raise AdapterError(f"adapters: {card.name} has no {use.name[:64]!r}")
        if not math.isfinite(use.scale):
            raise GenerationError(f"adapters: the scale of {use.name} must be a finite number, is {use.scale}")
