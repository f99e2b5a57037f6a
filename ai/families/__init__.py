"""Model families: how each is loaded, prompted, stepped and decoded. Imports torch.

A family's name is what `ModelCard.family` says.
"""

from __future__ import annotations

from collections.abc import Mapping

from ai.cards import ModelCard
from ai.families import sd15
from ai.families.family import LoadModel, Model
from ai.types import EngineSettings, ModelLoadError

FAMILIES: Mapping[str, LoadModel] = {"sd15": sd15.load}


def load(card: ModelCard, settings: EngineSettings) -> Model:
    """Load a card's model by its family. Raises ModelLoadError."""
    family = FAMILIES.get(card.family)
    if family is None:
        raise ModelLoadError(f"{card.name}: family {card.family!r} is not known; there are {', '.join(FAMILIES)}")
    return family(card, settings)
