"""The engine of one device: a loop that denoises all samples together, a step at a time, and writes texts between the steps.

Any thread may call `submit`, `cancel`, `load`, `stop` and `numbers`; everything else happens in `run`, on the one
thread that `start` schedules it on. What other threads want of the loop comes as letters (`ai.inbox`).

This module imports no torch, so that a server can listen before it is loaded; the loop imports it at its start.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from ai import heap
from ai.acceptance import check_request
from ai.batching import BatchPolicy, Group, Turn
from ai.by_kind import Load, Weigh, load_by_kind, weigh_by_files
from ai.cards import Card, ModelCard, with_refiners
from ai.failures import as_engine_error, lost_device
from ai.inbox import Inbox
from ai.loading import Aside, Loader, at_once
from ai.lodging import Lodger
from ai.memory import Memory
from ai.roll import Roll
from ai.seating import Seating
from ai.shelf import Demand, Shelf
from ai.steppers import Steppers
from ai.tally import Tally
from ai.telling import Teller
from ai.text.texts import Texts
from ai.types import (
    CustomRequest,
    Deliver,
    DeviceLost,
    EngineError,
    EngineNumbers,
    EngineSettings,
    GenerationError,
    GenerationRequest,
    HandedBack,
    Request,
    TextRequest,
)
from ai.work import Sample, Work, share_out

if TYPE_CHECKING:
    from ai.device import Place

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
        cards: Sequence[Card],
        settings: EngineSettings,
        start: Callable[[], None],
        deliver: Deliver,
        *,
        aside: Aside = at_once,
        aside_adapters: Aside = at_once,
        load_model: Load = load_by_kind,
        weigh: Weigh = weigh_by_files,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._inbox = Inbox(start)
        self._tally = Tally(clock)
        # The loop's own.
        self._teller = Teller(deliver, self._tally)
        self._policy: BatchPolicy[Sample] = BatchPolicy(settings)
        self._memory = Memory()
        self._roll = Roll(self._policy, self._teller.emit, self._inbox.forget)
        self._painted: list[Sample] = []  # those that made their last step in the turn before
        self._make_shelf = partial(
            Shelf,
            settings=settings,
            load_model=load_model,
            weigh=weigh,
            loader=Loader(settings, aside, self._inbox.post),
            forget=self._forget_model,
            aside_adapters=Loader(settings, aside_adapters, self._inbox.post).run,
            clock=clock,
            emit=self._teller.emit,
        )
        self._shelf = self._make_shelf(with_refiners(cards), memory=self._memory, demand=self._demand)
        self._lodging = self._shelf  # where lodgers have their place
        self._steppers = Steppers(
            self._memory,
            model=self._shelf.__getitem__,
            is_loading=lambda: self._shelf.is_loading,
            relieve=self._relieve,
        )
        self._seating = Seating(
            self._roll,
            self._policy,
            residents=self._shelf.residents,
            post=self._inbox.post,
            relieve=self._relieve,
            started=self._teller.started,
        )
        self._texts = Texts(
            settings, self._shelf, self._memory, emit=self._teller.emit, forget=self._inbox.forget, clock=clock
        )

    # From any thread.

    def submit(self, request: Request) -> None:
        """Take in a request; it joins at the next step boundary.

        Raises ValueError for a request id that is in the engine, EngineStopped after `stop()` or when the device is lost,
        and whatever `start` raises: then the request stays in the inbox, and the next letter tries to start the loop again.
        """
        assert not isinstance(request, CustomRequest)  # which has a host
        at = self._clock()
        if isinstance(request, TextRequest):
            letter = partial(self._texts.admit, request, at)
        else:
            letter = partial(self._admit, request, at)
        self._inbox.submit(request.request_id, request.samples, letter)

    def cancel(self, request_id: str) -> None:
        """Give up a request at the next step boundary. One that is not in the engine (any more) is ignored."""
        if self._inbox.knows(request_id):
            self._inbox.post(lambda: self._cancel(request_id))

    def save(self, request_id: str) -> None:
        """Tell, by `Saved`, how far a request is; it goes on. One that is not in the engine (any more) is ignored."""
        if self._inbox.knows(request_id):
            self._inbox.post(lambda: self._save(request_id))

    def load(self, model: str) -> None:
        """Load a model ahead of its first request, or try again one that failed. ModelReady or ModelUnavailable
        follows, unless it is in memory."""
        if not self._inbox.stopping:
            self._inbox.post(lambda: self._shelf.load(model))

    def add(self, card: Card) -> None:
        """Paint with one more model from now on; those that are there go on."""
        self._inbox.post(lambda: self._shelf.add(card))

    def remove(self, model: str) -> None:
        """Let go of a model when the requests that name it have ended."""
        self._inbox.post(lambda: self._shelf.retire(model))

    def hand_back(self, images: int) -> None:
        """Give up requests that have not begun, the latest first, of about so many images. HandedBack follows."""
        self._inbox.post(lambda: self._teller.emit(HandedBack(self._give_back(images))))

    def abandon(self, error: Exception) -> None:
        """The thread that `run` was called on has failed: what is here is handed back. `run` must not be under way."""
        self._lose(as_engine_error(error))

    def tidy(self) -> None:
        """Unload models that nobody used for as long as the settings say, and give free memory back if nothing is under way;
        to be called every now and then."""
        self._inbox.post(self._tidy)

    def lodge(self, lodger: Lodger) -> None:
        """Ask for main memory: of this engine's own budget, where its device is the CPU; else all that the machine has."""
        self._inbox.post(lambda: self._lodging.lodge(lodger))

    def lodger_takes(self, name: str, size: int) -> None:
        """What a lodger takes now."""
        self._inbox.post(lambda: self._lodging.lodgers.takes(name, size))

    def lodger_busy(self, name: str, busy: bool) -> None:
        """Whether a lodger is in use."""
        self._inbox.post(lambda: self._lodging.lodgers.busy(name, busy))

    def lodger_gone(self, name: str) -> None:
        """A lodger takes nothing any more, or does not want to come."""
        self._inbox.post(lambda: self._lodging.lodger_gone(name))

    def stop(self) -> None:
        """End the loop at the next step boundary; what is in the engine gets Canceled."""
        self._inbox.stop()

    def numbers(self) -> EngineNumbers:
        """What was measured up to the last step."""
        numbers = self._tally.numbers
        return replace(numbers, waiting=numbers.waiting + self._inbox.submitted)

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

    def _turn(self) -> None:
        """Decode what made its last step in the turn before, then one forward pass for the samples whose turn it is."""
        painted = list(filter(self._roll.has, self._painted))
        for group in dict.fromkeys(sample.group for sample in painted):
            self._guarded(self._finish, group, [sample for sample in painted if sample.group == group])
        self._painted = []
        self._want_models()
        self._roll.fail_late(self._clock(), self._policy.pace.least_seconds)
        began = self._clock()
        turn = self._policy.next_step(lambda group: self._shelf.seats(group.model))
        self._park(turn)
        if turn.samples:
            self._guarded(self._step, turn.samples[0].group, turn.samples)
        if self._texts:
            now = self._clock()
            self._texts.turn(now + (now - began) if turn.samples else now, lambda: self._inbox.has_letters)

    def _guarded(
        self, work: Callable[[Group, Sequence[Sample]], None], group: Group, samples: Sequence[Sample]
    ) -> None:
        """Do `work` with samples of one group; an error, which nobody foresaw, is all these samples' own."""
        try:
            work(group, samples)
        except Exception as error:
            lost = lost_device(error)
            if lost is not None:
                raise lost from error
            if not isinstance(error, EngineError):
                log.exception("a turn of the engine's loop failed")
            self._roll.fail([sample.work for sample in samples], error)

    def _want_models(self) -> None:
        """Ask for what is not in memory; requests for what cannot be had fail."""
        painting = (sample.group.model for sample in self._roll.samples)
        for model in dict.fromkeys((*painting, *sorted(self._texts.wanted))):
            try:
                self._shelf.want(model)
            except EngineError as error:
                self._roll.fail_model(model, error)
                self._texts.fail_model(model, error)
        self._shelf.make_room()
        self._lodging.make_room()

    def _park(self, turn: Turn[Sample]) -> None:
        """Note who has to wait for a higher priority and who goes on; a request of which nothing goes on is told."""
        parked = [sample for sample in turn.parked if not sample.parked]
        for sample in turn.samples:
            sample.parked = False
        for sample in parked:
            sample.parked = True
            sample.opened_row.park()
        for work in dict.fromkeys(sample.work for sample in parked):
            if not any(sample.running for sample in work.samples):
                self._teller.emit(work.parked())
                self._save(work.request.request_id)

    def _step(self, group: Group, samples: Sequence[Sample]) -> None:
        """Seat the newcomers, move all that have a row one step on, and tell of it."""
        self._shelf.use(group.model)
        model, stepper = self._shelf[group.model], self._steppers[group]
        seated = self._seating.seat(model, samples)
        if not seated:
            return
        began = self._clock()
        failures = stepper.step([sample.opened_row for sample in seated])
        self._note_step(seated, self._clock() - began)
        for sample in seated:
            if sample.row in failures:
                self._roll.fail([sample.work], failures[sample.opened_row])
        moved = list(filter(self._roll.has, seated))
        self._painted = [sample for sample in moved if sample.painted]
        for sample in self._painted:
            self._policy.discard(sample)
        self._teller.stepped(moved, self._policy.seconds_per_turn())
        self._teller.previewed(stepper, [sample for sample in moved if sample.wants_preview])

    def _note_step(self, samples: Sequence[Sample], seconds: float) -> None:
        self._policy.stepped(samples, seconds)
        self._tally.step(len(samples), sum(sample.rows for sample in samples), seconds)
        share_out(seconds, [(sample.work, sample.rows) for sample in samples])

    def _finish(self, group: Group, samples: Sequence[Sample]) -> None:
        """Decode what made its last step; end the requests that are complete."""
        began = self._clock()
        pictures, failures = self._steppers[group].decode([sample.opened_row for sample in samples])
        share_out(self._clock() - began, [(sample.work, 1) for sample in samples])
        for sample in samples:
            row = sample.opened_row
            if row in failures:
                self._roll.fail([sample.work], failures[row])
            else:
                sample.work.keep_picture(sample, pictures[row])
        self._roll.clear_painted()
        for work in dict.fromkeys(sample.work for sample in samples):
            if work.complete and self._roll.drop(work):
                self._teller.emit(work.finished())

    def _hand_over(self) -> None:
        """Publish the numbers and deliver the turn's events; forget the groups that nobody is left of."""
        self._steppers.keep({sample.group for sample in self._roll.samples})
        self._publish()
        self._teller.hand_over()

    def _publish(self) -> None:
        samples = self._roll.samples
        running = sum(sample.running for sample in samples)
        parked = sum(sample.parked for sample in samples)
        self._steppers.weigh()
        self._shelf.places.weigh_adapters()
        self._tally.set(
            running=running,
            parked=parked,
            waiting=len(samples) - running - parked,
            models=tuple(self._shelf),
            adapters=self._shelf.places.adapters,
            adapter_hits=self._shelf.places.adapter_hits,
            adapter_loads=self._shelf.places.adapter_loads,
            adapter_evictions=self._shelf.places.adapter_evictions,
            texts_running=self._texts.running,
            texts_waiting=self._texts.waiting,
            tokens=self._texts.tokens,
            memory=self._memory.numbers,
        )
        self._tally.look()

    # Coming and going.

    def _know(self, place: Place) -> None:
        """Take in what torch says of the device, when the loop first starts."""
        from ai.device import driver_name
        from ai.gauge import cores_of, device_use, gauge_of, memory_limit, utilisation

        if self._steppers.gauge is None:
            self._steppers.gauge = gauge_of(place)
            self._steppers.cores = self._texts.cores = cores_of(place, self._settings)
            self._memory.limit = memory_limit(self._settings, place)
            self._tally.utilisation = partial(utilisation, place)
            self._tally.device_memory = partial(device_use, place)
            self._tally.set(device=str(place.device), device_name=driver_name(place))
            if place.device.type != "cpu":
                self._lodge_apart()

    def _lodge_apart(self) -> None:
        """Lodgers take main memory: that is another than this engine's models do."""
        from ai.gauge import main_memory_limit

        memory = Memory(main_memory_limit(self._settings))
        self._lodging = self._make_shelf([], memory=memory, demand=lambda: Demand((), ()))

    def _take_in(self) -> bool:
        """Read the inbox. False if there is nothing to do until a letter comes: then the loop has ended."""
        letters = self._inbox.take(self._goes_on)
        if letters is None:
            return False
        stopping = self._inbox.stopping
        for letter in letters:
            letter()
        if stopping:
            self._roll.cancel_all()
            self._texts.cancel_all()
        return True

    def _goes_on(self, stopping: bool) -> bool:
        """Whether a turn can do something, without a letter that says that what somebody needs has come."""
        coming = self._shelf.is_coming
        able = (not sample.work.waiting and not coming(sample.group.model) for sample in self._roll.samples)
        return any(able) or self._texts.is_able(coming) or (stopping and bool(self._roll or self._texts))

    def _admit(self, request: GenerationRequest, submitted_at: float) -> None:
        work = Work(request, submitted_at)
        self._roll.enter(work)
        try:
            card = self._shelf.card(request.model)
            if not isinstance(card, ModelCard):
                raise GenerationError(f"model: {request.model!r} paints nothing")
            check_request(work.request, card)
        except EngineError as error:
            self._roll.fail([work], error)
        else:
            work.refine_by(card)
            self._roll.line_up(work)

    def _cancel(self, request_id: str) -> None:
        self._roll.cancel([request_id])
        self._texts.cancel(request_id)

    def _give_back(self, samples: int) -> tuple[Request, ...]:
        pictures = self._roll.give_back(samples)
        left = samples - sum(request.samples for request in pictures)
        return (*pictures, *(self._texts.give_back(left) if left > 0 else ()))

    def _save(self, request_id: str) -> None:
        self._texts.save(request_id)
        work = self._roll.find(request_id)
        if work is not None:
            here = work.group.model in self._shelf
            self._teller.saved(work, self._shelf[work.group.model] if here else None)

    def _tidy(self) -> None:
        self._shelf.evict_idle()
        if self._lodging is not self._shelf:
            self._lodging.evict_idle()
        if not self._roll.samples and not self._texts and not self._shelf.is_loading:
            heap.give_back()

    # What the shelf asks, and is asked for.

    def _demand(self) -> Demand:
        """Which models the samples want, and which of them have samples that step or are decoded."""
        seated = {sample.group.model for sample in self._painted} | {group.model for group in self._policy.seated}
        wanted = {sample.group.model for sample in self._roll.samples}
        return Demand(wanted | set(self._texts.wanted), seated | set(self._texts.seated))

    def _forget_model(self, name: str) -> None:
        """Let go of what still refers to a model that is unloaded."""
        self._steppers.forget(name)
        self._seating.undress(name)
        self._texts.forget_model(name)

    def _relieve(self) -> bool:
        """Let go of something that takes memory and that nobody needs now. False if there is nothing."""
        gone = self._shelf.relieve()
        if gone:
            log.warning("out of memory: %s went, and the step is tried again", gone)
        return bool(gone)

    # Bad ends.

    def _lose(self, error: EngineError) -> None:
        """Hand back all there is, and take no more: the device is gone, and with it whatever was in its memory."""
        while (letters := self._inbox.take_last(str(error))) is not None:
            for letter in letters:
                with suppress(DeviceLost):
                    letter()
        self._tally.set(lost=str(error))
        self._teller.emit(HandedBack((*self._roll.give_back_all(), *self._texts.give_back_all()), error))
        self._hand_over()

    def _give_up(self, error: Exception) -> None:
        """Fail all there is, then end the loop; the next letter starts it again."""
        while (letters := self._inbox.take(lambda stopping: bool(self._roll or self._texts))) is not None:
            for letter in letters:
                letter()
            self._roll.fail(self._roll, error)
            self._texts.fail_all(error)
            self._hand_over()
        self._hand_over()
