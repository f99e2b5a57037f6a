"""The models in memory. Plain Python: whatever loads a model imports torch when it is first called."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ai.cards import ModelCard
from ai.types import EngineError, EngineEvent, EngineSettings, ModelLoadError, ModelReady, ModelUnavailable

if TYPE_CHECKING:
    from ai.families.family import LoadModel, Model

log = logging.getLogger(__name__)

# A model that would not load is not tried again for every request that names it: a hub that does not answer costs
# the loop seconds each time. A person who has put the missing file in place waits this long, or asks for `load`.
RETRY_SECONDS = 60.0


def load_by_family(card: ModelCard, settings: EngineSettings) -> Model:
    """Load a card's model by its family (the engine's default way to come by a model)."""
    # Here and not above: the server's port listens before torch is imported, and this runs on the engine's thread.
    from ai import families

    return families.load(card, settings)


class Shelf:
    """Models by name, loaded when first asked for and then kept. (Unloading by memory will take them off here.)"""

    def __init__(
        self,
        cards: Sequence[ModelCard],
        settings: EngineSettings,
        load_model: LoadModel,
        clock: Callable[[], float],
        emit: Callable[[EngineEvent], None],
    ) -> None:
        self._cards: Mapping[str, ModelCard] = {card.name: card for card in cards}
        self._settings = settings
        self._load_model = load_model
        self._clock = clock
        self._emit = emit
        self._models: dict[str, Model] = {}
        self._failures: dict[str, tuple[float, EngineError]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._models

    def card(self, name: str) -> ModelCard:
        """The card of a model. Raises ModelLoadError for a name that has none."""
        if name not in self._cards:
            raise ModelLoadError(f"model: {name!r} does not exist; there are {', '.join(self._cards) or 'none'}")
        return self._cards[name]

    def get(self, name: str, *, try_again: bool = False) -> Model:
        """The model, loaded now if it is not in memory (this blocks: minutes for a large one on a slow disk).

        Emits ModelReady or ModelUnavailable when it has tried. Raises EngineError for a model that cannot be loaded,
        within RETRY_SECONDS of the last try without trying, unless `try_again`.
        """
        if name in self._models:
            return self._models[name]
        failed_at, error = self._failures.get(name, (0.0, None))
        if error is not None and not try_again and self._clock() - failed_at < RETRY_SECONDS:
            raise error
        return self._load(name)

    def _load(self, name: str) -> Model:
        began = self._clock()
        try:
            model = self._load_model(self.card(name), self._settings)
        except Exception as error:
            log.exception("model %s could not be loaded", name)
            known = error if isinstance(error, EngineError) else ModelLoadError(f"{name}: {error!r}")
            self._failures[name] = (self._clock(), known)
            self._emit(ModelUnavailable(name, known))
            raise known from error
        self._models[name] = model
        self._failures.pop(name, None)
        self._emit(ModelReady(name, self._clock() - began))
        return model
