"""ListModels: what this server can paint with."""

from __future__ import annotations

from server.commands import ListModels
from server.health import Health
from server.replies import ModelList


class ListModelsHandler:
    """Every model with its state."""

    def __init__(self, health: Health) -> None:
        self._health = health

    def __call__(self, command: ListModels) -> ModelList:
        """Answers at once."""
        return ModelList(self._health.models())
