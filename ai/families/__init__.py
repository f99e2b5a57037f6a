"""Model families: how each is loaded, prompted, stepped and decoded.

Importing this package imports no torch; loading a model imports its family's module, which does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ai.families.known import find_family
from ai.types import EngineSettings, ModelLoadError

if TYPE_CHECKING:
    from ai.cards import ModelCard
    from ai.families.family import LoadModel, Model


def load(card: ModelCard, settings: EngineSettings) -> Model:
    """Load a card's model by the family that the card names, else by what its files are. Raises ModelLoadError."""
    from ai.families.checkpoints import recognise_source, telling
    from ai.families.warming import warm_up

    try:
        family = find_family(card.family or recognise_source(card.source))
    except ModelLoadError as error:
        raise ModelLoadError(f"{card.name}: {error}") from error
    load_model: LoadModel = import_module(f"{__name__}.{family.name}").load
    model = load_model(card, settings)
    with telling(card.source):
        warm_up(model, card)
    return model
