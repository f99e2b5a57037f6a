"""One custom model: its queue, its process, and what becomes of both.

    cold → (room is asked for) → loading → ready ⇄ busy → ending → cold

A process is begun when there is a request for it, makes one prediction after the other, and is ended when the budget wants its
room (the same rule as for painters' models: ai.shelf), or when it does what it must not. Whatever it does is told to the one
request that it was at, as an error that names the model and the reason; the rest of the queue goes on in the next process, after
a pause that doubles with each that ended badly.

A request that is cancelled while it runs is asked to stop first, which a predict that yields hears at its next yield; the process
of one that does not is killed. Everything here is called on one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from enum import Enum, auto

from ai.custom import hearing
from ai.custom.alarm import Alarm
from ai.custom.cards import CustomCard
from ai.custom.framing import Message
from ai.custom.line import Line
from ai.custom.prediction import Prediction
from ai.custom.process import Clock, Ending, Launch, Limits, Process
from ai.custom.room import Room
from ai.lodging import Lodgings
from ai.requests import CustomRequest
from ai.types import (
    Answered,
    Canceled,
    DeadlineExceeded,
    EngineError,
    EngineEvent,
    EngineStopped,
    Failed,
    Finished,
    GenerationError,
    ModelLoadError,
    ModelLoading,
    ModelReady,
    ModelUnavailable,
    ModelUnloaded,
    Saved,
)

log = logging.getLogger(__name__)

CANCEL_GRACE = 2.0  # seconds for a predict that was cancelled to come to its next yield
UNLOAD_GRACE = 10.0  # seconds for `unload`
RETRY_SECONDS = (
    60.0  # as for painters' models: one that would not load is not tried again for each request that names it
)
FIRST_PAUSE, LAST_PAUSE = 0.5, 60.0  # seconds after a process that ended badly
# Bytes: of Python with Pillow or so, where neither the class nor an earlier process says otherwise.
USUAL_MEMORY = 256 << 20


class Stage(Enum):
    """Where a model's process is."""

    COLD = auto()
    WAITING = auto()  # for room
    LOADING = auto()
    READY = auto()
    BUSY = auto()
    ENDING = auto()


class Desk:
    """A custom model's. `emit` is told what happens, one event at a time."""

    def __init__(
        self,
        card: CustomCard,
        limits: Limits,
        *,
        launch: Launch,
        lodgings: Lodgings,
        clock: Clock,
        emit: Callable[[EngineEvent], None],
    ) -> None:
        self._card = card
        self._limits = limits
        self._launch = launch
        self._room = Room(card.name, lodgings, granted=self._begin, refused=self._no_room, leave=self._leave)
        self._clock = clock
        self._emit = emit
        self._line = Line()
        self.stage = Stage.COLD
        self._process: Process | None = None
        self._running: Prediction | None = None
        self._leaving = False  # the budget wants the room
        self._why: EngineError | None = None  # we have ended the process
        self._stopped: Callable[[], None] | None = None
        self._began = 0.0  # loading
        self._late = Alarm(clock)  # of what is under way
        self._pause = Alarm(clock)
        self._pauses = 0
        self._expected = card.memory or USUAL_MEMORY
        self._failure: tuple[float, EngineError] | None = None

    # What is asked

    @property
    def name(self) -> str:
        """The model's."""
        return self._card.name

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return len(self._line)

    @property
    def running(self) -> bool:
        """Whether one is predicted."""
        return self._running is not None

    @property
    def in_memory(self) -> bool:
        """Whether the model is."""
        return self.stage in (Stage.READY, Stage.BUSY)

    def submit(self, request: CustomRequest) -> None:
        """One more request."""
        if self._stopped is not None:
            raise EngineStopped("the custom models are stopped and take no more requests")
        if (failure := self._recent_failure()) is not None:
            self._emit(Failed(request.request_id, failure))
            return
        self._line.add(request)
        self._go_on()

    def cancel(self, request_id: str) -> bool:
        """Give a request up. False where it is not here."""
        if self._running is not None and self._running.id == request_id:
            self._cancel_running(self._running)
            return True
        if request_id not in self._line:
            return False
        self._line.drop(request_id)
        self._emit(Canceled(request_id))
        if self.stage is Stage.WAITING and not self._line:
            self._give_room_back()
        return True

    def save(self, request_id: str) -> bool:
        """There is nothing to save of a prediction: it begins anew. False where it is not here."""
        runs = self._running is not None and self._running.id == request_id
        if not runs and request_id not in self._line:
            return False
        self._emit(Saved(request_id, ()))
        return True

    def stop(self, stopped: Callable[[], None]) -> None:
        """Give up all there is, and end the process; `stopped` is called when there is none."""
        self._stopped = stopped
        for request in self._line.empty():
            self._emit(Canceled(request.request_id))
        self._pause.drop()
        if self.stage is Stage.WAITING:
            self._give_room_back()
        if self.stage is Stage.READY:
            self._unload()
        elif self._process is not None:
            if self._running is not None:
                self._running.canceled = True
            self._end(EngineStopped("the server stops"))
        else:
            stopped()

    # Coming

    def _recent_failure(self) -> EngineError | None:
        if self._card.problem:
            return ModelLoadError(f"model {self.name}: {self._card.problem}")
        if self._failure is not None and self._clock.seconds() - self._failure[0] < RETRY_SECONDS:
            return self._failure[1]
        return None

    def _go_on(self) -> None:
        """Do what is next."""
        if self.stage is Stage.READY:
            if self._leaving or self._stopped is not None:
                self._unload()
            elif self._line:
                self._predict(self._line.next())
        elif self.stage is Stage.COLD and self._line and not self._pause.is_set:
            self.stage = Stage.WAITING
            self._emit(ModelLoading(self.name))
            self._room.ask(self._expected)

    def _no_room(self, error: EngineError) -> None:
        self.stage = Stage.COLD
        self._unavailable(error)

    def _begin(self) -> None:
        """There is room: begin the process, and have it load."""
        self.stage, self._began, self._leaving = Stage.LOADING, self._clock.seconds(), False
        try:
            self._process = self._launch(self._card, self._memory_limit, self)
        except OSError as error:
            self._unavailable(ModelLoadError(f"model {self.name}: its process could not be begun: {error.strerror}"))
            self._give_room_back()
            return
        path = self._card.path
        self._process.send(
            {
                "do": "load",
                "module": path.module,
                "name": path.name,
                "argument": path.argument,
                "max_output": self._limits.max_output,
            }
        )
        late = ModelLoadError(f"model {self.name}: load took more than {self._limits.load_seconds:g} s")
        self._late.set(self._limits.load_seconds, self._end, late)

    def _give_room_back(self) -> None:
        self.stage = Stage.COLD
        self._room.give_back()
        self._emit(ModelUnloaded(self.name))

    def _loaded(self, message: Message) -> None:
        self._late.drop()
        self.stage, self._failure = Stage.READY, None
        self._emit(ModelReady(self.name, self._clock.seconds() - self._began))
        self._rest()

    def _not_loaded(self, message: Message) -> None:
        self._note_trace(message)
        self._end(ModelLoadError(f"model {self.name}: load: {message.head['reason']}"))

    def _unavailable(self, error: EngineError) -> None:
        """It could not be loaded: so for all who wait for it, and for those who come soon."""
        log.error("custom model %s: %s", self.name, error)
        self._failure = (self._clock.seconds(), error)
        self._emit(ModelUnavailable(self.name, error))
        for request in self._line.empty():
            self._emit(Failed(request.request_id, error))

    # Predicting

    def _predict(self, request: CustomRequest) -> None:
        assert self._process is not None
        if self.stage is Stage.READY:
            self._room.busy(True)
        self.stage, self._running = Stage.BUSY, Prediction(request, self._clock, self._emit)
        self._running.ask(self._process)
        seconds = self._card.predict_seconds or self._limits.predict_seconds
        late = DeadlineExceeded(f"model {self.name}: predict took more than {seconds:g} s, and was ended")
        self._late.set(seconds, self._end, late)

    def _rest(self) -> None:
        """There may be nothing to do."""
        self._go_on()
        if self.stage is Stage.READY:
            self._room.busy(False)

    def _cancel_running(self, running: Prediction) -> None:
        if not running.canceled and self.stage is Stage.BUSY and self._process is not None:
            running.canceled = True
            self._process.send({"do": "cancel", "id": running.id})
            self._late.set(CANCEL_GRACE, self._end, GenerationError(f"model {self.name}: was cancelled"))

    def _over(self, event: Answered | Finished | Failed | Canceled) -> None:
        """The running prediction has its last event."""
        running, self._running = self._at_it, None
        running.over(event)

    def _next(self) -> None:
        """The process is free again."""
        self._late.drop()
        self._pauses = 0
        self.stage = Stage.READY
        self._rest()

    def _progress(self, message: Message) -> None:
        self._at_it.progress(message)

    def _text(self, message: Message) -> None:
        self._at_it.text(message)

    def _preview(self, message: Message) -> None:
        self._at_it.preview(message)

    def _done(self, message: Message) -> None:
        self._over(hearing.end(self._at_it.id, message))
        self._next()

    def _stopped_early(self, message: Message) -> None:
        self._over(Canceled(self._at_it.id))
        self._next()

    def _failed(self, message: Message) -> None:
        self._over(Failed(self._at_it.id, hearing.failure(self.name, message)))
        self._note_trace(message)
        self._next()

    def _note_trace(self, message: Message) -> None:
        """What is told of an error is its first line; the log has all of it."""
        if trace := message.head.get("trace"):
            log.error("custom model %s: %s\n%s", self.name, message.head.get("reason"), trace)

    @property
    def _at_it(self) -> Prediction:
        assert self._running is not None
        return self._running

    # What is heard of the process

    def heard(self, message: Message) -> None:
        """Take in what it says; what makes no sense here ends it."""
        if self.stage is Stage.ENDING:
            self._note_trace(message)
            return
        act = self._hear.get((self.stage, str(message.head.get("say"))))
        try:
            if act is None:
                raise ValueError("it answered what it was not asked")
            act(self, message)
        except (KeyError, TypeError, ValueError) as error:
            self.garbled(str(error))

    _hear: Mapping[tuple[Stage, str], Callable[[Desk, Message], None]] = {  # a table, never written to
        (Stage.LOADING, "loaded"): _loaded,
        (Stage.LOADING, "failed"): _not_loaded,
        (Stage.BUSY, "progress"): _progress,
        (Stage.BUSY, "text"): _text,
        (Stage.BUSY, "preview"): _preview,
        (Stage.BUSY, "done"): _done,
        (Stage.BUSY, "canceled"): _stopped_early,
        (Stage.BUSY, "failed"): _failed,
    }

    def garbled(self, reason: str) -> None:
        """It writes where it must not."""
        if self.stage is not Stage.ENDING:
            self._end(
                GenerationError(f"model {self.name}: its process wrote what is no answer, and was ended: {reason}")
            )

    def takes(self, size: int) -> None:
        """What it takes counts in the budget."""
        if self._process is not None:
            self._expected = max(size, self._card.memory or 0)
            self._room.takes(self._expected)

    def ended(self, ending: Ending) -> None:
        """It is no more: whoever it was at hears why, and the next begins after a pause, if it ended badly."""
        self._late.drop()
        stage, self.stage, self._process = self.stage, Stage.COLD, None
        why = hearing.ending(self.name, ending, self._memory_limit, loads=stage is Stage.LOADING)
        error, self._why = self._why or why, None
        if ending.why == "memory":  # no size to ask for again
            self._expected = self._card.memory or USUAL_MEMORY
        bad = stage in (Stage.READY, Stage.BUSY) or (self._running is not None and not self._running.canceled)
        if self._running is not None:
            self._over(Failed(self._at_it.id, error))
        self._give_room_back()
        if isinstance(error, ModelLoadError):
            self._unavailable(error)
        elif bad:
            log.error("custom model %s: its process has ended: %s", self.name, error)
            self._rest_a_while()
        if self._stopped is not None:
            self._stopped()
        else:
            self._go_on()

    # Going

    def _leave(self) -> None:
        """The budget wants the room, now or when what is under way is done."""
        self._leaving = True
        if self.stage is Stage.READY:
            self._unload()

    def _unload(self) -> None:
        assert self._process is not None
        self.stage = Stage.ENDING
        self._process.send({"do": "unload"})
        self._late.set(UNLOAD_GRACE, self._process.end)

    def _end(self, why: EngineError) -> None:
        assert self._process is not None
        self._late.drop()
        self._why, self.stage = why, Stage.ENDING
        self._process.end()

    def _rest_a_while(self) -> None:
        seconds = min(FIRST_PAUSE * 2**self._pauses, LAST_PAUSE)
        self._pauses += 1
        self._pause.set(seconds, self._go_on)

    @property
    def _memory_limit(self) -> int:
        return self._card.memory_limit or self._limits.memory
