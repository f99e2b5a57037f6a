"""The engines' threads: of each device one for the steps, one for models, one for adapters; and the way back to the reactor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import structlog
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

from ai.cards import Card
from ai.engine import Engine
from ai.fleet import Fleet
from ai.types import Deliver, EngineEvent, EngineNumbers, EngineSettings, Request

log = structlog.get_logger("atelier.gpu")

TIDY_EVERY = 60.0  # seconds between looks for what nobody uses; sooner where a model's time-out is short


class DeviceThreads:
    """An engine and its three threads. `start` and `stop` are called on the reactor thread and on one that may wait."""

    def __init__(
        self, reactor: Any, cards: Sequence[Card], settings: EngineSettings, deliver: Deliver, name: str
    ) -> None:
        self._reactor = reactor
        self._steps = ThreadPool(minthreads=0, maxthreads=1, name=f"gpu{name}")
        self._loading = ThreadPool(minthreads=0, maxthreads=1, name=f"loading{name}")
        self._adapters = ThreadPool(minthreads=0, maxthreads=1, name=f"adapters{name}")
        self.engine = Engine(
            cards,
            settings,
            self._run,
            deliver,
            aside=self._loading.callInThread,
            aside_adapters=self._adapters.callInThread,
        )

    def start(self) -> None:
        """Start the threads."""
        self._steps.start()
        self._loading.start()
        self._adapters.start()

    def stop(self) -> None:
        """End the threads, after the loop has been told to end; what is being loaded is waited for."""
        self._steps.stop()
        self._loading.stop()
        self._adapters.stop()

    def _run(self) -> None:
        """The engine has work and no loop: called on any thread."""
        self._reactor.callFromThread(self._run_on_reactor)

    def _run_on_reactor(self) -> None:
        if not self._steps.started:  # stopped in the turn it was started in
            return
        deferToThreadPool(self._reactor, self._steps, self.engine.run).addErrback(self._died)

    def _died(self, failure: Failure) -> None:
        log.error("engine.died", reason=failure.getErrorMessage(), traceback=failure.getTraceback())
        self.engine.abandon(RuntimeError(f"the engine stopped: {failure.getErrorMessage()}"))


class EngineThreads:
    """A `Painter`: the devices' engines, their threads, and their events brought to the reactor thread, once a step for all.

    `settings` has an entry for each device. `on_death` is called when the last of them is lost.
    """

    def __init__(
        self,
        reactor: Any,
        cards: Sequence[Card],
        settings: Sequence[EngineSettings],
        *,
        on_events: Callable[[Sequence[EngineEvent]], None],
        on_death: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._cards = tuple(cards)
        self._devices = [one.device for one in settings]
        self._early: list[Card] | None = []  # added before the start: a loop would find no thread yet
        self._threads: list[DeviceThreads] = []
        self._tidying: Any = None  # IDelayedCall, which mypy cannot read
        self._tidy_every = min(TIDY_EVERY, settings[0].idle_unload / 4 or TIDY_EVERY)
        self._fleet = Fleet(
            settings,
            self._make,
            lambda events: reactor.callFromThread(on_events, events),
            lambda reason: reactor.callFromThread(on_death, reason),
        )

    def _make(self, settings: EngineSettings, deliver: Deliver) -> Engine:
        name = str(len(self._threads)) if self._threads else ""
        self._threads.append(DeviceThreads(self._reactor, self._cards, settings, deliver, name))
        return self._threads[-1].engine

    def start(self, model: str) -> None:
        """Start the threads, and load the default model on every device."""
        for threads in self._threads:
            threads.start()
        early, self._early = self._early or [], None
        for card in early:
            self._fleet.add(card)
        self._fleet.load(model)
        self._tidying = self._reactor.callLater(self._tidy_every, self._tidy)

    def stop(self) -> None:
        """End the loops at their next step boundary, then the threads. Called on a thread that may wait."""
        self._reactor.callFromThread(self._stop_tidying)
        self._fleet.stop()
        for threads in self._threads:
            threads.stop()

    @property
    def lodgings(self) -> Engine:
        """Where others ask for main memory: the CPU's engine, where there is one, else the first, which knows of no other use."""
        engines = [threads.engine for threads in self._threads]
        return next((one for one, device in zip(engines, self._devices, strict=True) if device == "cpu"), engines[0])

    @property
    def cards(self) -> Sequence[Card]:
        """Every model, the default first."""
        return self._cards

    def add(self, card: Card) -> None:
        """Paint with one more model; before the start, from then on."""
        if self._early is not None:
            self._early.append(card)
        else:
            self._fleet.add(card)

    def remove(self, model: str) -> None:
        """Let go of a model when its requests have ended."""
        if self._early is not None:
            self._early = [card for card in self._early if card.name != model]
        else:
            self._fleet.remove(model)

    def submit(self, request: Request) -> None:
        """Take a request."""
        self._fleet.submit(request)

    def cancel(self, request_id: str) -> None:
        """Stop a request at the next step boundary."""
        self._fleet.cancel(request_id)

    def save(self, request_id: str) -> None:
        """Ask how far a request is."""
        self._fleet.save(request_id)

    def numbers(self) -> EngineNumbers:
        """What was measured last."""
        return self._fleet.numbers()

    def _tidy(self) -> None:
        self._fleet.tidy()
        self._tidying = self._reactor.callLater(self._tidy_every, self._tidy)

    def _stop_tidying(self) -> None:
        if self._tidying is not None and self._tidying.active():
            self._tidying.cancel()
