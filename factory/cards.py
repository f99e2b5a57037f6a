"""The models' cards from the settings, and whether what they say by default may be asked for."""

from __future__ import annotations

from collections.abc import Sequence

from ai.adapters.folder import find_adapters
from ai.cards import Card, ModelCard, read_any_card, with_default_solver
from ai.types import AdapterError, ModelLoadError
from config import Settings, SettingsError
from server.commands import Submit
from server.errors import Refusal
from server.jobs.admission import Admission


def read_cards(settings: Settings) -> list[Card]:
    """Every model's card, the default's first. Raises SettingsError."""
    try:
        shared = {} if settings.adapters_dir is None else find_adapters(settings.adapters_dir)
    except AdapterError as error:
        raise SettingsError(f"ATELIER_ADAPTERS_DIR: {error}") from error
    try:
        cards = [read_any_card(name, source, shared) for name, source in settings.model_sources().items()]
    except (ModelLoadError, AdapterError) as error:
        raise SettingsError(f"ATELIER_MODELS: {error}") from error
    try:
        solver = settings.solver()
        return [with_default_solver(card, solver) if solver and isinstance(card, ModelCard) else card for card in cards]
    except ModelLoadError as error:
        raise SettingsError(f"ATELIER_DEFAULT_SOLVER, SCHEDULER_TYPE: {error}") from error


def check_defaults(admission: Admission, cards: Sequence[ModelCard]) -> None:
    """Refuse to start where a request that names nothing would be refused: limits and defaults contradict each other."""
    for card in cards:
        try:
            admission.complete(Submit(owner="nobody", prompt="anything", model=card.name))
        except Refusal as refusal:
            name = refusal.field.upper()
            message = (
                f"ATELIER_MAX_{name}, ATELIER_DEFAULT_{name}: the default of model {card.name} does not fit: {refusal}"
            )
            raise SettingsError(message) from None
