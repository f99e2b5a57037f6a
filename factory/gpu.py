"""The engine's thread: one named thread per device, and the way back from it to the reactor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from ai.cards import ModelCard
from ai.engine import Engine
from ai.types import EngineEvent, EngineNumbers, EngineSettings, GenerationRequest

log = structlog.get_logger("atelier.gpu")


class EngineThread:
    """A `Painter`: the engine, its thread, and its events brought to the reactor thread, once a step for all."""

    def __init__(
        self,
        reactor: Any,
        cards: Sequence[ModelCard],
        settings: EngineSettings,
        *,
        on_events: Callable[[Sequence[EngineEvent]], None],
        on_death: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._cards = tuple(cards)
        self._on_events = on_events
        self._on_death = on_death
        self._threads = ThreadPool(minthreads=0, maxthreads=1, name="gpu")
        self._engine = Engine(cards, settings, self._run, self._deliver)

    def start(self, model: str) -> None:
        """Start the thread, and load the default model on it."""
        self._threads.start()
        self._engine.load(model)

    def stop(self) -> None:
        """End the loop at its next step boundary, then the thread."""
        self._engine.stop()
        self._threads.stop()

    @property
    def cards(self) -> Sequence[ModelCard]:
        """Every model, the default first."""
        return self._cards

    def submit(self, request: GenerationRequest) -> None:
        """Take a request."""
        self._engine.submit(request)

    def cancel(self, request_id: str) -> None:
        """Stop a request at the next step boundary."""
        self._engine.cancel(request_id)

    def numbers(self) -> EngineNumbers:
        """What was measured last."""
        return self._engine.numbers()

    def _run(self) -> None:
        """The engine has work and no loop: called on any thread."""
        self._reactor.callFromThread(self._run_on_reactor)

    def _run_on_reactor(self) -> None:
        if not self._threads.started:  # stopped in the turn it was started in
            return
        deferToThreadPool(self._reactor, self._threads, self._engine.run).addErrback(self._died)

    def _deliver(self, events: Sequence[EngineEvent]) -> None:
        self._reactor.callFromThread(self._on_events, events)

    def _died(self, failure: Failure) -> None:
        log.error("engine.died", reason=failure.getErrorMessage(), traceback=failure.getTraceback())
        self._on_death(f"the engine stopped: {failure.getErrorMessage()}")
