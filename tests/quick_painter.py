"""An engine that paints at once and without a model, for real servers of which something else is tried.

A picture's colour is its seed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from ai.cards import ModelCard
from ai.types import (
    Canceled,
    EngineEvent,
    EngineNumbers,
    Finished,
    GenerationRequest,
    ModelReady,
    Phase,
    Picture,
    Saved,
    Started,
    Stepped,
)
from factory import service


class QuickPainter:
    """A `Painter` as factory.gpu.EngineThreads is built. `step_seconds` is the time that each of its three turns takes; where
    that is none, all requests share their turns, as they share an engine's steps."""

    step_seconds = 0.01

    def __init__(
        self,
        reactor: Any,
        cards: Sequence[ModelCard],
        settings: Any,
        *,
        on_events: Callable[[Sequence[EngineEvent]], None],
        on_death: Callable[[str], None],
    ) -> None:
        self.cards = cards
        self._reactor = reactor
        self._tell = on_events
        self._painted: set[str] = set()
        self._turns: deque[list[Started | Stepped | Finished]] = deque()  # to come, of requests that share them

    def start(self, model: str) -> None:
        """Ready at once."""
        self._reactor.callLater(0, self._tell, [ModelReady(model, 0.0)])

    def stop(self) -> None:
        """There is no thread."""

    def add(self, card: ModelCard) -> None:
        """It paints with whatever is named."""

    def remove(self, model: str) -> None:
        """The same."""

    def submit(self, request: GenerationRequest) -> None:
        """Paint it in three turns."""
        self._painted.add(request.request_id)
        pictures = tuple(
            Picture(seed, request.width, request.height, bytes([seed % 256]) * (request.width * request.height * 3))
            for seed in range(request.seed, request.seed + request.num_images)
        )
        name = request.request_id
        self._later(1, Started(name))
        self._later(2, Stepped(name, Phase.DENOISING, 1, 2, 0.5, 0.0))
        self._later(3, Finished(name, pictures, ()))

    def cancel(self, request_id: str) -> None:
        """Say nothing more of it but that."""
        if request_id in self._painted:
            self._painted.discard(request_id)
            self._reactor.callLater(0, self._tell, [Canceled(request_id)])

    def save(self, request_id: str) -> None:
        """There is nothing to go on from."""
        if request_id in self._painted:
            self._reactor.callLater(0, self._tell, [Saved(request_id, ())])

    def numbers(self) -> EngineNumbers:
        """None."""
        return EngineNumbers()

    def _later(self, turn: int, event: Started | Stepped | Finished) -> None:
        if self.step_seconds:
            self._reactor.callLater(turn * self.step_seconds, self._say, [event])
            return
        if not self._turns:
            self._reactor.callLater(0, self._take_turn)
        while len(self._turns) < turn:
            self._turns.append([])
        self._turns[turn - 1].append(event)

    def _take_turn(self) -> None:
        events = self._turns.popleft()
        if self._turns:
            self._reactor.callLater(0, self._take_turn)
        self._say(events)

    def _say(self, events: list[Started | Stepped | Finished]) -> None:
        heard = [event for event in events if event.request_id in self._painted]
        self._painted.difference_update(event.request_id for event in heard if isinstance(event, Finished))
        if heard:
            self._tell(heard)


def paint_quickly(step_seconds: float = QuickPainter.step_seconds) -> None:
    """Let every server of this process have this engine."""
    QuickPainter.step_seconds = step_seconds
    built: Any = service
    built.EngineThreads = QuickPainter
