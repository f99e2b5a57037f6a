"""How a card's model is put into memory, and what it will take there, by its kind: the engine's default.

Plain Python: whatever loads a model imports torch when it is first called, on the loading thread, for the server's port listens
before that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ai.cards import Card, ModelCard, runs_on
from ai.errors import ModelLoadError
from ai.settings import EngineSettings
from ai.text.cards import TextCard

if TYPE_CHECKING:
    from ai.families.family import Model
    from ai.text.model import TextModel

Weigh = Callable[[Any, EngineSettings], int]
"""The bytes that a card's model will about take, from its files; 0 where they cannot tell. Called on the loading thread."""

Load = Callable[[Any, EngineSettings], "Model | TextModel"]
"""Puts a card's model into memory. Raises ModelLoadError, with a text that says what is wrong with which file."""


def load_by_kind(card: Card, settings: EngineSettings) -> Model | TextModel:
    """Load a card's model, one that paints by its family (the engine's default way to come by a model)."""
    assert isinstance(card, (ModelCard, TextCard))  # a custom model has a host
    from ai.device import find_place

    device = find_place(settings).device.type
    if not runs_on(card.hardware, device):
        raise ModelLoadError(f"{card.name}: hardware: is for a {card.hardware}, and this device is {device}")
    if isinstance(card, TextCard):
        from ai.text.model import load_text_model

        return load_text_model(card, settings)
    from ai import families

    return families.load(card, settings)


def weigh_by_files(card: Card, settings: EngineSettings) -> int:
    """What the model's files say (the engine's default)."""
    if isinstance(card, TextCard):
        from ai.text.model import expected_text_bytes

        return expected_text_bytes(card, settings)
    from ai.families.weights import expected_bytes

    return expected_bytes(card.source, settings)
