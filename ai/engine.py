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
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ai.batching import BatchPolicy, Group, Turn
from ai.cards import ModelCard, with_refiners
from ai.failures import as_engine_error, lost_device, ran_out_of_memory
from ai.loading import Aside, Letter, Loader, at_once
from ai.memory import Memory, Pass
from ai.shelf import Demand, Shelf, Weigh, load_by_family, weigh_by_files
from ai.tally import Tally
from ai.types import (
    AdapterError,
    Canceled,
    Deliver,
    DeviceLost,
    EngineError,
    EngineEvent,
    EngineNumbers,
    EngineSettings,
    EngineStopped,
    Failed,
    GenerationError,
    GenerationRequest,
    HandedBack,
    InitImage,
    Previewed,
    Started,
)
from ai.work import Sample, Work

if TYPE_CHECKING:
    from ai.adapters.residents import Outfit
    from ai.device import Place
    from ai.families.family import LoadModel, Model
    from ai.gauge import Gauge, Meter
    from ai.stepping import Row, Stepper

log = logging.getLogger(__name__)


class Engine:
    """Paints requests for the models of `cards` on one device.

    `start` must arrange for `run()` to be called soon, on the engine's one thread (or at once, in a test). It is
    called exactly when there is work and no loop is running. `deliver` gets, on the loop's thread, what happened.

    A model is loaded when a request first names it, and kept while there is room (`ai.shelf`). `aside` runs what loads it
    on another thread: the samples of other models go on stepping meanwhile, and where there are none the loop ends. A
    model that failed to load fails its requests with the same error; after `ai.shelf.RETRY_SECONDS` a request tries again.

    Adapters are brought by `aside_adapters`, which waits for no model; a request joins the others at the first step boundary
    at which all it wears is there. One that cannot be had fails the requests that name it.

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
        aside: Aside = at_once,
        aside_adapters: Aside = at_once,
        load_model: LoadModel = load_by_family,
        weigh: Weigh = weigh_by_files,
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
        self._lost = ""  # why the device takes no more
        self._tally = Tally(clock)
        # The loop's own.
        self._policy: BatchPolicy[Sample] = BatchPolicy(settings)
        self._memory = Memory()
        self._shelf = Shelf(
            with_refiners(cards),
            settings,
            load_model=load_model,
            weigh=weigh,
            loader=Loader(settings, aside, self._post),
            memory=self._memory,
            demand=self._demand,
            forget=self._forget_model,
            aside_adapters=Loader(settings, aside_adapters, self._post).run,
            clock=clock,
            emit=self._emit,
        )
        self._gauge: Gauge | None = None  # from the loop's first start on
        self._works: dict[str, Work] = {}
        self._samples: list[Sample] = []  # in order of arrival
        self._painted: list[Sample] = []  # those that made their last step in the turn before
        self._steppers: dict[Group, Stepper] = {}
        self._events: list[EngineEvent] = []
        self._arrivals = 0

    # From any thread.

    def submit(self, request: GenerationRequest) -> None:
        """Take in a request; it joins at the next step boundary.

        Raises ValueError for a request id that is in the engine, EngineStopped after `stop()` or when the device is lost,
        and whatever `start` raises: then the request stays in the inbox, and the next letter tries to start the loop again.
        """
        submitted_at = self._clock()
        with self._lock:
            if self._stopping:
                raise EngineStopped("the engine is stopping and takes no more requests")
            if self._lost:
                raise EngineStopped(self._lost)
            if request.request_id in self._known:
                raise ValueError(f"request_id: {request.request_id!r} is in the engine already")
            self._known.add(request.request_id)
            self._submitted += request.num_images
            self._inbox.append(lambda: self._admit(request, submitted_at))
            wake = self._wakes()
        self._wake(wake)

    def cancel(self, request_id: str) -> None:
        """Give up a request at the next step boundary. One that is not in the engine (any more) is ignored."""
        with self._lock:
            known = request_id in self._known
        if known:
            self._post(lambda: self._cancel([request_id]))

    def load(self, model: str) -> None:
        """Load a model ahead of its first request, or try again one that failed. ModelReady or ModelUnavailable
        follows, unless it is in memory."""
        with self._lock:
            stopping = self._stopping
        if not stopping:
            self._post(lambda: self._load(model))

    def hand_back(self, images: int) -> None:
        """Give up requests that have not begun, the latest first, of about so many images. HandedBack follows."""
        self._post(lambda: self._hand_back(images))

    def abandon(self, error: Exception) -> None:
        """The thread that `run` was called on has failed: what is here is handed back. `run` must not be under way."""
        self._lose(as_engine_error(error))

    def tidy(self) -> None:
        """Unload models that nobody used for as long as the settings say; to be called every now and then."""
        self._post(self._shelf.evict_idle)

    def stop(self) -> None:
        """End the loop at the next step boundary; what is in the engine gets Canceled."""
        with self._lock:
            self._stopping = True
            wake = bool(self._known) and self._wakes()
        self._wake(wake)

    def numbers(self) -> EngineNumbers:
        """What was measured up to the last step."""
        with self._lock:
            numbers, submitted = self._tally.numbers, self._submitted
        return replace(numbers, waiting=numbers.waiting + submitted)

    def _post(self, letter: Letter) -> None:
        """Have the loop read a letter, in its turn."""
        with self._lock:
            if self._lost:
                return
            self._inbox.append(letter)
            wake = self._wakes()
        self._wake(wake)

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

            with working_on(self._settings) as place:
                self._know(place)
                while self._take_in():
                    self._turn()
                    self._hand_over()
        except DeviceLost as error:
            log.exception("the device is lost")
            self._lose(error)
        except Exception as error:
            log.exception("the engine's loop failed")
            self._give_up(error)

    def _know(self, place: Place) -> None:
        """Take in what torch says of the device, when the loop first starts."""
        from ai.gauge import gauge_of, memory_limit, utilisation

        if self._gauge is None:
            self._gauge = gauge_of(place)
            self._memory.limit = memory_limit(self._settings, place)
            self._tally.utilisation = partial(utilisation, place)
            self._tally.set(device=str(place.device))

    def _turn(self) -> None:
        """Decode what made its last step in the turn before, then one forward pass for the samples whose turn it is."""
        painted = [sample for sample in self._painted if self._alive(sample)]
        for group in dict.fromkeys(sample.group for sample in painted):
            self._guarded(self._finish, group, [sample for sample in painted if sample.group == group])
        self._painted = []
        self._want_models()
        self._fail_late()
        turn = self._policy.next_step(lambda group: self._shelf.seats(group.model))
        self._park(turn)
        if turn.samples:
            self._guarded(self._step_together, turn.samples[0].group, turn.samples)

    def _fail_late(self) -> None:
        """Fail the requests that cannot make their deadline any more."""
        now = self._clock()
        for work in list(self._works.values()):
            error = work.late(now, self._policy.pace.least_seconds)
            if error is not None:
                self._fail([work], error)

    def _park(self, turn: Turn[Sample]) -> None:
        """Note who has to wait for a higher priority and who goes on; a request of which nothing goes on is told."""
        parked = [sample for sample in turn.parked if not sample.parked]
        for sample in turn.samples:
            sample.parked = False
        for sample in parked:
            sample.parked = True
            _row(sample).park()
        for work in dict.fromkeys(sample.work for sample in parked):
            if not any(sample.running for sample in work.samples):
                self._emit(work.parked())

    def _want_models(self) -> None:
        """Ask for what is not in memory; requests for what cannot be had fail."""
        for model in dict.fromkeys(sample.group.model for sample in self._samples):
            try:
                self._shelf.want(model)
            except EngineError as error:
                self._fail([sample.work for sample in self._samples if sample.group.model == model], error)

        self._shelf.make_room()

    def _guarded(
        self, work: Callable[[Group, Sequence[Sample]], bool], group: Group, samples: Sequence[Sample]
    ) -> bool:
        """What `work` says of samples of one group; False after an error, which is all these samples' own: what
        nobody foresaw."""
        try:
            return work(group, samples)
        except Exception as error:
            lost = lost_device(error)
            if lost is not None:
                raise lost from error
            if not isinstance(error, EngineError):
                log.exception("a turn of the engine's loop failed")
            self._fail([sample.work for sample in samples], error)
            return False

    def _step_together(self, group: Group, samples: Sequence[Sample]) -> bool:
        model = self._shelf.use(group.model)
        self._step(self._stepper(group), self._seat(model, samples))
        return True

    def _stepper(self, group: Group) -> Stepper:
        from ai.stepping import Stepper

        if group not in self._steppers:
            meter = self._meter(group)
            self._steppers[group] = Stepper(self._shelf[group.model], meter, self._relieve)
        return self._steppers[group]

    def _meter(self, group: Group) -> Meter | None:
        from ai.gauge import Meter

        if self._gauge is None:
            return None
        kind = partial(Pass, group.model, group.height, group.width)
        return Meter(self._memory, self._gauge, lambda: self._shelf.is_loading, kind)

    def _relieve(self) -> bool:
        """Let go of something that takes memory and that nobody needs now. False if there is nothing."""
        gone = self._shelf.relieve()
        if gone:
            log.warning("out of memory: %s went, and the step is tried again", gone)
        return bool(gone)

    def _seat(self, model: Model, samples: Sequence[Sample]) -> list[Sample]:
        """Give the newcomers their rows of tensors, if their adapters are there. A request that fails at that fails alone."""
        for sample in samples:
            if not self._alive(sample) or (sample.wears and not self._dress(sample.work)):
                continue
            if not sample.running:
                self._open_or_fail(model, sample)
            elif sample.wears and sample.work.outfit is not None:  # its model may have gone and come back: other slots
                _row(sample).worn = tuple(sample.work.outfit.worn)
        return [one for one in samples if one.running and self._alive(one) and not (one.wears and one.work.waiting)]

    def _dress(self, work: Work) -> bool:
        """Whether the request's adapters are there. If not they are sent for, and it stands aside until they are."""
        if work.outfit is None and work.uses:
            residents = self._shelf.residents(work.group.model)
            work.outfit = residents.wear(work.uses, partial(self._outfit_came, work))
            if not work.outfit.ready:
                work.waiting = True
                for sample in work.wearers:
                    self._policy.discard(sample)
        return not work.waiting

    def _outfit_came(self, work: Work, outfit: Outfit, error: EngineError | None) -> None:
        """On the adapters' thread."""
        self._post(lambda: self._dressed(work, outfit, error))

    def _dressed(self, work: Work, outfit: Outfit, error: EngineError | None) -> None:
        if outfit is not work.outfit:
            return
        if error is not None:
            self._fail([work], error)
        self._take_back(work)

    def _take_back(self, work: Work) -> None:
        """Let a request that stood aside have its turns again."""
        if work.waiting and work.request.request_id in self._works:
            for sample in work.wearers:
                self._policy.add(sample)
        work.waiting = False

    def _open_or_fail(self, model: Model, sample: Sample) -> None:
        while True:
            try:
                self._open(model, sample)
                return
            except Exception as error:
                lost = lost_device(error)
                if lost is not None:
                    raise lost from error
                if not (ran_out_of_memory(error) and self._relieve()):
                    self._fail([sample.work], error)
                    return

    def _open(self, model: Model, sample: Sample) -> None:
        from ai.stepping import open_row, refine_row

        work = sample.work
        if sample.row is not None:
            told = replace(work.request, init_image=None)
            work.refiner_prompted = work.refiner_prompted or model.prompt(told, ())
            refine_row(model, work.request, sample.row, work.refiner_prompted, work.switch)
            return
        worn = tuple(work.outfit.worn) if work.outfit is not None else ()
        work.prompted = work.prompted or model.prompt(work.request, worn)
        sample.row = open_row(model, work.request, sample.index, work.prompted, worn, switch=work.switch)
        if sample.row.at_handover:  # an init image leaves the base model no step: it belongs to the refiner's group now
            self._policy.discard(sample)
            self._policy.add(sample)
        if not work.started:
            work.started = True
            self._tally.seated(work.submitted_at)
            self._emit(Started(work.request.request_id))

    def _step(self, stepper: Stepper, samples: Sequence[Sample]) -> None:
        """Move all samples one step on, and tell of it."""
        if not samples:
            return
        rows = [_row(sample) for sample in samples]
        began = self._clock()
        failures = stepper.step(rows)
        self._note_step(samples, self._clock() - began)
        for sample in samples:
            if sample.row in failures:
                self._fail([sample.work], failures[_row(sample)])
        moved = [sample for sample in samples if self._alive(sample)]
        self._painted = [sample for sample in moved if sample.painted]
        for sample in self._painted:
            self._policy.discard(sample)
        seconds_per_turn = self._policy.seconds_per_turn()
        for work in dict.fromkeys(sample.work for sample in moved):
            if not work.joined:
                work.joined = True
                self._tally.joined(work.submitted_at)
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
        """Read the inbox. False if there is nothing to do until a letter comes: then the loop has ended, in the lock's
        eyes too."""
        with self._lock:
            letters, self._inbox, self._submitted = self._inbox, [], 0
            self._looping = bool(letters) or any(map(self._can_go_on, self._samples))
            self._looping = self._looping or (self._stopping and bool(self._works))
            if not self._looping:
                return False
            stopping = self._stopping
        for letter in letters:
            letter()
        if stopping:
            self._cancel(list(self._works))
        return True

    def _can_go_on(self, sample: Sample) -> bool:
        """Whether a turn can do something for it, without a letter that says that what it needs has come."""
        return not sample.work.waiting and not self._shelf.is_coming(sample.group.model)

    def _admit(self, request: GenerationRequest, submitted_at: float) -> None:
        work = self._works[request.request_id] = Work(request, submitted_at)
        try:
            card = self._shelf.card(request.model)
            _check(request, card)
        except EngineError as error:
            self._fail([work], error)
        else:
            work.refine_by(card)
            work.add_samples(self._arrivals)
            self._arrivals += len(work.samples)
            self._samples += work.samples
            for sample in work.samples:
                self._policy.add(sample)

    def _cancel(self, request_ids: Iterable[str]) -> None:
        for request_id in request_ids:
            if request_id in self._works and self._drop(self._works[request_id]):
                self._emit(Canceled(request_id))

    def _hand_back(self, images: int) -> None:
        requests: list[GenerationRequest] = []
        for work in reversed(list(self._works.values())):
            if images > 0 and not work.started and self._drop(work):
                requests.insert(0, work.request)
                images -= work.request.num_images
        self._emit(HandedBack(tuple(requests)))

    def _load(self, model: str) -> None:
        self._shelf.load(model)

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
        for sample in work.samples:
            self._policy.discard(sample)
        work.undress()
        with self._lock:
            self._known.discard(work.request.request_id)
        return True

    def _lose(self, error: EngineError) -> None:
        """Hand back all there is, and take no more: the device is gone, and with it whatever was in its memory."""
        while True:
            with self._lock:
                letters, self._inbox, self._submitted = self._inbox, [], 0
                if not letters:
                    self._looping = False
                    self._lost = str(error)
                    break
            for letter in letters:
                with suppress(DeviceLost):
                    letter()
        self._tally.set(lost=str(error))
        works = list(self._works.values())
        requests = tuple(work.request for work in works if self._drop(work))
        self._emit(HandedBack(requests, error))
        self._hand_over()

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

    def _demand(self) -> Demand:
        """Which models the samples want, and which of them have samples that step or are decoded."""
        seated = {sample.group.model for sample in self._painted} | {group.model for group in self._policy.seated}
        return Demand({sample.group.model for sample in self._samples}, seated)

    def _forget_model(self, name: str) -> None:
        """Let go of what still refers to a model that is unloaded."""
        self._steppers = {group: stepper for group, stepper in self._steppers.items() if group.model != name}
        for work in self._works.values():
            if work.group.model == name:
                work.undress()  # its adapters have gone too, and are asked for again when the model is back
                self._take_back(work)

    def _emit(self, event: EngineEvent) -> None:
        self._events.append(event)

    def _note_step(self, samples: Sequence[Sample], seconds: float) -> None:
        self._policy.stepped(samples, seconds)
        self._tally.step(len(samples), sum(sample.rows for sample in samples), seconds)

    def _hand_over(self) -> None:
        """Publish the numbers and deliver the turn's events; forget the groups that nobody is left of."""
        present = {sample.group for sample in self._samples}
        self._steppers = {group: stepper for group, stepper in self._steppers.items() if group in present}
        running = sum(sample.running for sample in self._samples)
        parked = sum(sample.parked for sample in self._samples)
        self._weigh_latents()
        self._shelf.weigh_adapters()
        self._tally.set(
            running=running,
            parked=parked,
            waiting=len(self._samples) - running - parked,
            models=tuple(self._shelf),
            adapter_hits=self._shelf.adapter_hits,
            adapter_loads=self._shelf.adapter_loads,
            memory=self._memory.numbers,
        )
        self._tally.look()
        events, self._events = self._events, []
        if events:
            try:
                self._deliver(events)
            except Exception:
                log.exception("deliver failed; %d events are lost", len(events))

    def _weigh_latents(self) -> None:
        from ai.gauge import tensors_bytes

        self._memory.latents = tensors_bytes(tensor for one in self._steppers.values() for tensor in one.tensors())


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
    if request.init_image is not None:
        _check_init_image(request, request.init_image)
    elif request.strength:
        raise GenerationError("strength: goes with an init_image")
    for use in request.adapters:
        if use.name not in card.adapters:
            raise AdapterError(f"adapters: {card.name} has no {use.name[:64]!r}")
        if not math.isfinite(use.scale):
            raise GenerationError(f"adapters: the scale of {use.name} must be a finite number, is {use.scale}")


def _check_init_image(request: GenerationRequest, image: InitImage) -> None:
    if (image.width, image.height) != (request.width, request.height):
        raise GenerationError(
            f"init_image: must be {request.width} × {request.height} pixels, is {image.width} × {image.height}"
        )
    if len(image.rgb) != image.width * image.height * 3:
        raise GenerationError(f"init_image: must have {image.width * image.height * 3} bytes, has {len(image.rgb)}")
    if not 0 < request.strength <= 1:
        raise GenerationError(f"strength: must be more than 0 and at most 1, is {request.strength}")
