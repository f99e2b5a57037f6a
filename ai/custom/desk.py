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
from dataclasses import replace
from enum import Enum, auto

from ai.custom import hearing
from ai.custom.cards import CustomCard
from ai.custom.framing import Message
from ai.custom.line import Line
from ai.custom.process import Clock, Ending, Launch, Limits, Process, Timer
from ai.lodging import Lodger, Lodgings
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
    MemoryLimitExceeded,
    ModelLoadError,
    ModelLoading,
    ModelReady,
    ModelUnavailable,
    ModelUnloaded,
    Saved,
    Spoke,
    Started,
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
        self._lodgings = lodgings
        self._clock = clock
        self._emit = emit
        self._line = Line()
        self.stage = Stage.COLD
        self._process: Process | None = None
        self._running: CustomRequest | None = None
        self._said = 0  # characters of the running one's text
        self._canceled = False
        self._leaving = False  # the budget wants the room
        self._why: EngineError | None = None  # we have ended the process
        self._stopped: Callable[[], None] | None = None
        self._began = 0.0  # what is under way: loading, or a prediction
        self._timer: Timer | None = None  # of what is under way
        self._pause: Timer | None = None
        self._pauses = 0
        self._askings = 0  # for room
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
        if self._running is not None and self._running.request_id == request_id:
            self._cancel_running(request_id)
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
        runs = self._running is not None and self._running.request_id == request_id
        if not runs and request_id not in self._line:
            return False
        self._emit(Saved(request_id, ()))
        return True

    def stop(self, stopped: Callable[[], None]) -> None:
        """Give up all there is, and end the process; `stopped` is called when there is none."""
        self._stopped = stopped
        for request in self._line.empty():
            self._emit(Canceled(request.request_id))
        self._set_pause(None)
        if self.stage is Stage.WAITING:
            self._give_room_back()
        if self.stage is Stage.READY:
            self._unload()
        elif self._process is not None:
            self._canceled = True
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
        elif self.stage is Stage.COLD and self._line and self._pause is None:
            self.stage = Stage.WAITING
            self._emit(ModelLoading(self.name))
            self._ask_for_room()

    def _ask_for_room(self) -> None:
        """An answer to an older asking, on its way when that was given up, is none to this one."""
        self._askings += 1
        asking = self._askings

        def granted() -> None:
            if asking == self._askings and self.stage is Stage.WAITING:
                self._begin()

        def refused(error: EngineError) -> None:
            if asking == self._askings and self.stage is Stage.WAITING:
                self.stage = Stage.COLD
                self._unavailable(error)

        def leave() -> None:
            if asking == self._askings:
                self._leave()

        self._lodgings.lodge(Lodger(self.name, self._expected, granted, refused, leave))

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
        self._set_timer(self._limits.load_seconds, self._end, late)

    def _give_room_back(self) -> None:
        self.stage = Stage.COLD
        self._lodgings.lodger_gone(self.name)
        self._emit(ModelUnloaded(self.name))

    def _loaded(self, message: Message) -> None:
        self._drop_timer()
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
            self._lodgings.lodger_busy(self.name, True)
        self.stage, self._running, self._said, self._canceled = Stage.BUSY, request, 0, False
        self._began = self._clock.seconds()
        self._emit(Started(request.request_id))
        files = list(request.files)
        self._process.send(
            {"do": "predict", "id": request.request_id, "input": dict(request.input), "files": files},
            [request.files[name] for name in files],
        )
        seconds = self._card.predict_seconds or self._limits.predict_seconds
        late = DeadlineExceeded(f"model {self.name}: predict took more than {seconds:g} s, and was ended")
        self._set_timer(seconds, self._end, late)

    def _rest(self) -> None:
        """There may be nothing to do."""
        self._go_on()
        if self.stage is Stage.READY:
            self._lodgings.lodger_busy(self.name, False)

    def _cancel_running(self, request_id: str) -> None:
        if not self._canceled and self.stage is Stage.BUSY and self._process is not None:
            self._canceled = True
            self._process.send({"do": "cancel", "id": request_id})
            self._set_timer(CANCEL_GRACE, self._end, GenerationError(f"model {self.name}: was cancelled"))

    def _over(self, event: Answered | Finished | Failed | Canceled) -> None:
        """The running prediction has its last event; it had its process to itself."""
        request, self._running = self._running, None
        assert request is not None
        if self._canceled or isinstance(event, Canceled):
            self._emit(Canceled(request.request_id))
        else:
            self._emit(replace(event, device_seconds=self._clock.seconds() - self._began))

    def _next(self) -> None:
        """The process is free again."""
        self._drop_timer()
        self._pauses = 0
        self.stage = Stage.READY
        self._rest()

    def _progress(self, message: Message) -> None:
        self._emit(hearing.progress(self._running_id, message, self._clock.seconds() - self._began))

    def _text(self, message: Message) -> None:
        text = str(message.head["text"])
        self._emit(Spoke(self._running_id, self._said, text))
        self._said += len(text)

    def _preview(self, message: Message) -> None:
        self._emit(hearing.preview(self._running_id, message))

    def _done(self, message: Message) -> None:
        self._over(hearing.end(self._running_id, message))
        self._next()

    def _stopped_early(self, message: Message) -> None:
        self._over(Canceled(self._running_id))
        self._next()

    def _failed(self, message: Message) -> None:
        self._over(Failed(self._running_id, hearing.failure(self.name, message)))
        self._note_trace(message)
        self._next()

    def _note_trace(self, message: Message) -> None:
        """What is told of an error is its first line; the log has all of it."""
        if trace := message.head.get("trace"):
            log.error("custom model %s: %s\n%s", self.name, message.head.get("reason"), trace)

    @property
    def _running_id(self) -> str:
        assert self._running is not None
        return self._running.request_id

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
            self._lodgings.lodger_takes(self.name, self._expected)

    def ended(self, ending: Ending) -> None:
        """It is no more: whoever it was at hears why, and the next begins after a pause, if it ended badly."""
        self._drop_timer()
        stage, self.stage, self._process = self.stage, Stage.COLD, None
        error, self._why = self._reason(ending, stage), None
        if ending.why == "memory":  # no size to ask for again
            self._expected = self._card.memory or USUAL_MEMORY
        bad = stage in (Stage.READY, Stage.BUSY) or (self._running is not None and not self._canceled)
        if self._running is not None:
            self._over(Failed(self._running_id, error))
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

    def _reason(self, ending: Ending, stage: Stage) -> EngineError:
        """Why it ended: what we have ended it for, else what its keeper says."""
        if self._why is not None:
            return self._why
        reason = f"model {self.name}: {'load: ' if stage is Stage.LOADING else ''}{ending}"
        if ending.why == "memory":
            reason += f"; {self._memory_limit / 1e6:,.0f} MB are its limit"
        if stage is Stage.LOADING:
            return ModelLoadError(reason)
        return MemoryLimitExceeded(reason) if ending.why == "memory" else GenerationError(reason)

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
        self._set_timer(UNLOAD_GRACE, self._process.end)

    def _end(self, why: EngineError) -> None:
        assert self._process is not None
        self._drop_timer()
        self._why, self.stage = why, Stage.ENDING
        self._process.end()

    def _rest_a_while(self) -> None:
        seconds = min(FIRST_PAUSE * 2**self._pauses, LAST_PAUSE)
        self._pauses += 1
        self._set_pause(self._clock.callLater(seconds, self._begin_again))

    def _begin_again(self) -> None:
        self._pause = None
        self._go_on()

    @property
    def _memory_limit(self) -> int:
        return self._card.memory_limit or self._limits.memory

    def _set_timer(self, seconds: float, act: Callable[..., object], *arguments: object) -> None:
        """Whatever is under way has so long."""
        self._drop_timer()
        self._timer = self._clock.callLater(seconds, act, *arguments)

    def _drop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None

    def _set_pause(self, pause: Timer | None) -> None:
        if self._pause is not None and self._pause.active():
            self._pause.cancel()
        self._pause = pause
