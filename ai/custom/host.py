"""All custom models: a desk for each, seen from outside as one engine. Everything here is called on one thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ai.custom.cards import CustomCard
from ai.custom.desk import Desk
from ai.custom.process import Clock, Launch, Limits
from ai.lodging import Lodgings
from ai.requests import CustomRequest
from ai.types import EngineEvent, EngineNumbers, ModelLoadError, ModelUnavailable


class Host:
    """Takes requests for the models of `cards`; `deliver` is told what happens, as an engine tells it."""

    def __init__(
        self,
        cards: Sequence[CustomCard],
        limits: Limits,
        *,
        launch: Launch,
        lodgings: Lodgings,
        clock: Clock,
        deliver: Callable[[Sequence[EngineEvent]], None],
    ) -> None:
        self.cards = tuple(cards)
        self._clock = clock
        self._deliver = deliver
        self._events: list[EngineEvent] = []
        self._desks = {
            card.name: Desk(card, limits, launch=launch, lodgings=lodgings, clock=clock, emit=self._emit)
            for card in cards
        }

    def start(self) -> None:
        """Say which models cannot be had at all; processes are begun when they are wanted."""
        for card in self.cards:
            if card.problem:
                self._emit(ModelUnavailable(card.name, ModelLoadError(f"model {card.name}: {card.problem}")))

    def submit(self, request: CustomRequest) -> None:
        """Take a request. Raises EngineStopped."""
        self._desks[request.model].submit(request)

    def cancel(self, request_id: str) -> None:
        """Give up a request; unknown ones are ignored."""
        any(desk.cancel(request_id) for desk in self._desks.values())

    def save(self, request_id: str) -> None:
        """Say how far it is, which is nowhere: a prediction begins anew. Unknown ones are ignored."""
        any(desk.save(request_id) for desk in self._desks.values())

    def _emit(self, event: EngineEvent) -> None:
        """Have it told in the thread's next turn, together with what else happens in this one."""
        self._events.append(event)
        if len(self._events) == 1:
            self._clock.callLater(0, self._hand_over)

    def _hand_over(self) -> None:
        events, self._events = self._events, []
        self._deliver(events)

    def stop(self, stopped: Callable[[], None]) -> None:
        """Give up all requests and end all processes; `stopped` is called when there is none."""
        left = set(self._desks)

        def one_less(name: str) -> None:
            left.discard(name)
            if not left:
                stopped()

        if not left:
            stopped()
        for name, desk in self._desks.items():
            desk.stop(lambda name=name: one_less(name))  # type: ignore[misc]  # mypy sees no default there

    def numbers(self) -> EngineNumbers:
        """How many wait and are predicted; which models are in memory. What they take is in the lodgings' numbers."""
        desks = self._desks.values()
        return EngineNumbers(
            running=sum(desk.running for desk in desks),
            waiting=sum(desk.waiting for desk in desks),
            models=tuple(desk.name for desk in desks if desk.in_memory),
        )
