"""What the server can do now: is it loading, ready or stopping, and which models can paint."""

from __future__ import annotations

from collections.abc import Sequence

from ai.cards import Card
from ai.types import EngineEvent, ModelLoading, ModelReady, ModelUnavailable, ModelUnloaded
from server.replies import ModelState, ModelView, ServerState


class Health:
    """The server's state and its models'."""

    def __init__(self, cards: Sequence[Card], *, paints: bool = True) -> None:
        self._paints = paints  # a gateway loads no model, and is ready without
        self._views = {card.name: ModelView(card, ModelState.ON_DISK) for card in cards}
        self._others: dict[str, tuple[ModelState, str]] = {}  # of registered models, by their cards' names
        self._default = cards[0].name
        self._served = False  # whether the default model has been ready
        self._draining = False
        self._problem = ""

    def loading(self, model: str) -> None:
        """A model is being loaded."""
        self._set(model, ModelState.LOADING)

    def engine_events(self, events: Sequence[EngineEvent]) -> None:
        """Hear what became of the models."""
        for event in events:
            if isinstance(event, ModelLoading):
                self.loading(event.model)
            elif isinstance(event, ModelReady):
                self._set(event.model, ModelState.READY)
            elif isinstance(event, ModelUnavailable):
                self._set(event.model, ModelState.UNAVAILABLE, str(event.error))
            elif isinstance(event, ModelUnloaded):
                self._set(event.model, ModelState.ON_DISK)

    def engine_died(self, reason: str) -> None:
        """Nothing is painted any more."""
        self._problem = reason

    def drain(self) -> None:
        """No new job is taken any more."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """Whether the server is stopping."""
        return self._draining

    @property
    def dead(self) -> bool:
        """Whether the engine is gone for good."""
        return bool(self._problem)

    @property
    def state(self) -> ServerState:
        """What the server can do."""
        if self._draining:
            return ServerState.DRAINING
        if self._problem:
            return ServerState.FAILED
        if not self._paints:
            return ServerState.READY
        state = _SERVER_STATES[self._views[self._default].state]
        # A default model that went for want of use or room comes back when a job names it: the server is as ready as ever.
        return ServerState.READY if state is ServerState.LOADING and self._served else state

    @property
    def problem(self) -> str:
        """Why the state is FAILED."""
        return self._problem or self._views[self._default].problem

    def offer(self, model: str, problem: str = "") -> None:
        """A registered model is there too, or (`problem`) cannot be."""
        self._others[model] = (ModelState.UNAVAILABLE if problem else ModelState.ON_DISK, problem)

    def withdraw(self, model: str) -> None:
        """It is there no more."""
        self._others.pop(model, None)

    def state_of(self, model: str) -> tuple[ModelState, str]:
        """How a registered model is, and why it is unavailable."""
        return self._others.get(model, (ModelState.UNAVAILABLE, "it is not here"))

    def models(self) -> tuple[ModelView, ...]:
        """Every model of the settings, the default first."""
        return tuple(self._views.values())

    def _set(self, model: str, state: ModelState, problem: str = "") -> None:
        if model in self._others:
            self._others[model] = (state, problem)
        if model not in self._views:  # a refiner: no request names it, and nobody is shown it
            return
        self._views[model] = ModelView(self._views[model].card, state, problem)
        self._served = self._served or (model == self._default and state is ModelState.READY)


_SERVER_STATES = {
    ModelState.ON_DISK: ServerState.LOADING,
    ModelState.LOADING: ServerState.LOADING,
    ModelState.READY: ServerState.READY,
    ModelState.UNAVAILABLE: ServerState.FAILED,
}
