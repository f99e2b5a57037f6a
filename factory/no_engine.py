"""The painter of a node that paints nothing: a gateway."""

from __future__ import annotations

from collections.abc import Sequence

from ai.cards import Card
from ai.types import EngineNumbers, EngineStopped, Request


class NoEngine:
    """Knows the models, whose limits a gateway checks, and loads none."""

    def __init__(self, cards: Sequence[Card]) -> None:
        self.cards = cards

    def start(self, model: str) -> None:
        """There is nothing to start."""

    def stop(self) -> None:
        """Nor to stop."""

    def add(self, card: Card) -> None:
        """Others paint with it."""

    def remove(self, model: str) -> None:
        """There is nothing to let go of."""

    def submit(self, request: Request) -> None:
        """Raises EngineStopped."""
        raise EngineStopped("this node paints nothing")

    def cancel(self, request_id: str) -> None:
        """There is nothing to cancel."""

    def save(self, request_id: str) -> None:
        """Nor to save."""

    def numbers(self) -> EngineNumbers:
        """None."""
        return EngineNumbers()
