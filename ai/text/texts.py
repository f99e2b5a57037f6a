"""All texts of one engine: who waits, who is written, and what each turn of the loop does for them.

Pictures and texts share a device by time: after a step of pictures, texts are written for about as long, at least a token each,
and as soon as anybody wants something of the loop, it is heard. On the loop's thread; imports no torch before there is a model.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from ai.cards import Card
from ai.failures import as_engine_error, lost_device, ran_out_of_memory
from ai.memory import Memory
from ai.shelf import Shelf
from ai.text.cards import TextCard
from ai.text.row import Row, Waiting, next_in_line
from ai.types import (
    Canceled,
    DeadlineExceeded,
    EngineError,
    EngineEvent,
    EngineSettings,
    Failed,
    GenerationError,
    OutOfMemory,
    Saved,
    Started,
    TextRequest,
)

if TYPE_CHECKING:
    from ai.cores import Cores
    from ai.text.writer import Writer

log = logging.getLogger(__name__)

JOIN_TOKENS = 512  # of prompts that are read between two tokens of the rest: those under way should not feel who comes
PACE = 0.1  # how much the latest token's seconds count


class Texts:
    """`emit` tells of requests, `forget` hears the ids of those that have ended; `clock` tells seconds."""

    def __init__(
        self,
        settings: EngineSettings,
        shelf: Shelf,
        memory: Memory,
        *,
        emit: Callable[[EngineEvent], None],
        forget: Callable[[str], None],
        clock: Callable[[], float],
    ) -> None:
        self._most = settings.max_texts
        self._shelf = shelf
        self._memory = memory
        self._emit = emit
        self._forget = forget
        self._clock = clock
        self.cores: Cores | None = None  # which give passes their threads, on a CPU
        self._waiting: dict[str, Waiting] = {}  # by request
        self._writers: dict[str, Writer] = {}  # by model
        self._arrivals = 0
        self._seconds_per_token = 0.0
        self.tokens = 0  # written since the engine was made

    def __bool__(self) -> bool:
        return bool(self._waiting) or bool(self.running)

    @property
    def waiting(self) -> int:
        """Texts that have not begun."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Texts that are being written."""
        return sum(len(writer.rows) for writer in self._writers.values())

    @property
    def seated(self) -> Collection[str]:
        """Models that are writing."""
        return {model for model, writer in self._writers.items() if writer.rows}

    @property
    def wanted(self) -> Collection[str]:
        """Models that texts are asked of."""
        return {one.request.model for one in self._waiting.values()} | set(self.seated)

    def is_able(self, is_coming: Callable[[str], bool]) -> bool:
        """Whether a turn can do something for them."""
        return bool(self.seated) or any(not is_coming(one.request.model) for one in self._waiting.values())

    # Coming and going

    def admit(self, request: TextRequest, submitted_at: float) -> None:
        """One more."""
        self._waiting[request.request_id] = Waiting(request, self._arrivals, submitted_at)
        self._arrivals += 1
        try:
            card: Card = self._shelf.card(request.model)
            if not isinstance(card, TextCard):
                raise GenerationError(f"model: {request.model!r} writes no texts")
        except EngineError as error:
            self._fail(request.request_id, error)

    def cancel(self, request_id: str) -> None:
        """Give one up: its row is free for the next token."""
        if self._drop(request_id):
            self._emit(Canceled(request_id))

    def cancel_all(self) -> None:
        """Give all up."""
        for request_id in self._ids():
            self.cancel(request_id)

    def save(self, request_id: str) -> None:
        """Nothing of a text is worth keeping: it is written again, and the same, from its beginning."""
        if request_id in self._ids():
            self._emit(Saved(request_id, ()))

    def fail_model(self, model: str, error: EngineError) -> None:
        """End those that wait for a model that cannot be had."""
        for one in [one for one in self._waiting.values() if one.request.model == model]:
            self._fail(one.request.request_id, error)

    def fail_all(self, error: Exception) -> None:
        """End all."""
        for request_id in self._ids():
            self._fail(request_id, error)

    def give_back(self, count: int) -> tuple[TextRequest, ...]:
        """Let go of so many that have not begun, the latest first."""
        latest = sorted(self._waiting.values(), key=lambda one: one.arrival)[len(self._waiting) - count :]
        return tuple(one.request for one in latest if self._drop(one.request.request_id))

    def give_back_all(self) -> tuple[TextRequest, ...]:
        """Let go of all, begun or not."""
        rows = [row.request for writer in self._writers.values() for row in writer.rows]
        requests = rows + [one.request for one in self._waiting.values()]
        return tuple(request for request in requests if self._drop(request.request_id))

    def forget_model(self, model: str) -> None:
        """It is unloaded; nobody is being written by it."""
        self._writers.pop(model, None)

    # A turn

    def turn(self, until: float, is_wanted: Callable[[], bool]) -> None:
        """Tokens for all rows: once, and again until that time unless the loop is wanted for something else."""
        self._fail_late()
        while True:
            for model in sorted(self.wanted):
                if model in self._shelf:
                    self._write(model)
            if not self.seated or is_wanted() or self._clock() >= until:
                break
        self._weigh()

    def _write(self, model: str) -> None:
        """One token for each row of a model, and newcomers."""
        writer = self._writer(model)
        began, rows = self._clock(), list(writer.rows)
        try:
            if rows:
                self._shelf.use(model)
                self._step(model, writer)
                seconds = self._clock() - began
                self._note(len(rows), seconds)
                for row in rows:
                    row.device_seconds += seconds / len(rows)
        except Exception as error:
            self._failed(model, writer, error)
        else:
            self._tell(writer, rows)
        self._seat(model, writer)

    def _step(self, model: str, writer: Writer) -> None:
        """Batches are alike to the cores that need as many bits to count their rows."""
        if self.cores is None:
            writer.step()
        else:
            self.cores.run((model, len(writer.rows).bit_length()), lambda parts: writer.step())

    def _seat(self, model: str, writer: Writer) -> None:
        """Give rows to those whose turn it is, as far as there is room."""
        tokens = 0
        while len(writer.rows) < self._most and tokens < JOIN_TOKENS and self._shelf.seats(model):
            mine = (one for one in self._waiting.values() if one.request.model == model)
            one = next_in_line(mine, writer.rows)
            if one is None:
                return
            try:
                writer.tokenise(one)
                if not self._has_room(model, writer, one):
                    return
                tokens += len(one.prompt)
                self._join(model, writer, one)
            except Exception as error:
                lost = lost_device(error)
                if lost is not None:
                    raise lost from error
                self._fail(one.request.request_id, error)

    def _join(self, model: str, writer: Writer, one: Waiting) -> None:
        self._shelf.use(model)
        began = self._clock()
        row = writer.join(one)
        row.device_seconds = self._clock() - began
        del self._waiting[one.request.request_id]
        self._emit(Started(one.request.request_id))
        self.tokens += 1
        self._weigh()
        self._tell(writer, [row])

    def _has_room(self, model: str, writer: Writer, one: Waiting) -> bool:
        """Whether the budget has, when what nobody uses has gone. Raises OutOfMemory where it never will."""
        needed = writer.size_with(one) - writer.size_with()
        while not self._memory.fits(needed):
            if self._shelf.relieve():
                continue
            if self.running:
                return False
            raise OutOfMemory(f"{one.length} tokens take {needed / 1e6:,.0f} MB, which the budget has no room for")
        return True

    def _tell(self, writer: Writer, rows: Iterable[Row]) -> None:
        """What is new of these rows; those at their end leave."""
        now = self._clock()
        for row in rows:
            for event in row.news(now, self._seconds_per_token):
                self._emit(event)
            if row.ended:
                if row in writer.rows:
                    writer.leave(row)
                self._forget(row.request.request_id)
                self._emit(row.answer())

    def _note(self, rows: int, seconds: float) -> None:
        self.tokens += rows
        known = self._seconds_per_token
        self._seconds_per_token = seconds if not known else known + (seconds - known) * PACE

    def _failed(self, model: str, writer: Writer, error: Exception) -> None:
        """A pass failed: for want of memory the latest row goes, if nothing else does; else it is all these rows' own."""
        lost = lost_device(error)
        if lost is not None:
            raise lost from error
        if not ran_out_of_memory(error):
            if not isinstance(error, EngineError):
                log.error("a pass of %s failed", model, exc_info=error)
            for row in list(writer.rows):
                self._fail(row.request.request_id, error)
        elif not self._shelf.relieve():
            self._fail(writer.rows[-1].request.request_id, error)

    def _fail_late(self) -> None:
        now = self._clock()
        rows = [row.waiting for writer in self._writers.values() for row in writer.rows]
        for one in [one for one in (*rows, *self._waiting.values()) if now > one.deadline]:
            seconds = one.request.deadline_seconds
            self._fail(one.request.request_id, DeadlineExceeded(f"not written within {seconds:g} s"))

    def _fail(self, request_id: str, error: Exception) -> None:
        if self._drop(request_id):
            self._emit(Failed(request_id, as_engine_error(error)))

    def _drop(self, request_id: str) -> bool:
        """Let go of a request and its row. False if it has gone before."""
        here = self._waiting.pop(request_id, None) is not None
        for writer in self._writers.values():
            for row in [row for row in writer.rows if row.request.request_id == request_id]:
                writer.leave(row)
                here = True
        if here:
            self._forget(request_id)
        return here

    def _ids(self) -> list[str]:
        rows = [row.request.request_id for writer in self._writers.values() for row in writer.rows]
        return rows + list(self._waiting)

    def _writer(self, model: str) -> Writer:
        if model not in self._writers:
            from ai.text.writer import Writer

            self._writers[model] = Writer(self._shelf.text_model(model))
        return self._writers[model]

    def _weigh(self) -> None:
        self._memory.texts = sum(writer.size_with() for writer in self._writers.values())
