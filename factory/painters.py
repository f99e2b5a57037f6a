"""The engines and the custom models as the one `Painter` that stands before the jobs: who a request is for, its kind says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from ai.cards import Card
from ai.custom.host import Host
from ai.types import CustomRequest, EngineNumbers, Request


class Engines(Protocol):
    """What paints and writes (`factory.gpu.EngineThreads`, or a gateway's `NoEngine`)."""

    @property
    def cards(self) -> Sequence[Card]:
        """Every model of theirs, the default first."""
        ...

    def start(self, model: str) -> None:
        """Start, and load this model."""
        ...

    def stop(self) -> None:
        """End. Called on a thread that may wait."""
        ...

    def add(self, card: Card) -> None:
        """Paint with one more model."""
        ...

    def remove(self, model: str) -> None:
        """Let go of a model when its requests have ended."""
        ...

    def submit(self, request: Request) -> None:
        """Take a request."""
        ...

    def cancel(self, request_id: str) -> None:
        """Give one up."""
        ...

    def save(self, request_id: str) -> None:
        """Say how far one is."""
        ...

    def numbers(self) -> EngineNumbers:
        """What was measured."""
        ...


class Painters:
    """A `Painter` of two."""

    def __init__(self, engines: Engines, custom: Host) -> None:
        self._engines = engines
        self._custom = custom

    @property
    def cards(self) -> Sequence[Card]:
        """Every model, the default first."""
        return (*self._engines.cards, *self._custom.cards)

    def start(self, model: str) -> None:
        """Start both; a custom model's process is begun by its first request."""
        self._engines.start(model)
        self._custom.start()

    def stop(self) -> None:
        """End the engines. Custom models' processes have ended by then (`CustomModels.close`)."""
        self._engines.stop()

    def add(self, card: Card) -> None:
        """One more of the engines'."""
        self._engines.add(card)

    def remove(self, model: str) -> None:
        """One of the engines' less, when its requests have ended."""
        self._engines.remove(model)

    def submit(self, request: Request) -> None:
        """Take a request."""
        if isinstance(request, CustomRequest):
            self._custom.submit(request)
        else:
            self._engines.submit(request)

    def cancel(self, request_id: str) -> None:
        """Give one up, whoever has it."""
        self._custom.cancel(request_id)
        self._engines.cancel(request_id)

    def save(self, request_id: str) -> None:
        """Have whoever has it say how far it is."""
        self._custom.save(request_id)
        self._engines.save(request_id)

    def numbers(self) -> EngineNumbers:
        """The engines' numbers, with the custom models that are in memory and what of theirs runs and waits."""
        engines, custom = self._engines.numbers(), self._custom.numbers()
        return replace(
            engines,
            models=(*engines.models, *custom.models),
            custom_running=custom.running,
            custom_waiting=custom.waiting,
        )
