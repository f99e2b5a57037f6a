"""Running rows and engines by hand, on the test's own thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ai.adapters.residents import Worn
from ai.by_kind import Weigh
from ai.cards import ModelCard
from ai.engine import Engine
from ai.families.family import LoadModel, Model
from ai.loading import Aside, at_once
from ai.stepping import Row, Stepper, open_row
from ai.types import (
    Canceled,
    EngineEvent,
    EngineSettings,
    Failed,
    Finished,
    GenerationRequest,
    InitImage,
    Picture,
)

AnyEvent = TypeVar("AnyEvent")


def an_image(width: int = 64, height: int = 64, seed: int = 0) -> InitImage:
    """A picture with something in it: a gradient, a square and a little noise."""
    across, down = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    rgb = np.stack([across, down, 255 - across], axis=-1)
    rgb[height // 4 : height // 2, width // 4 : width // 2] = (250, 20, 20)
    rgb += np.random.default_rng(seed).normal(0, 8, rgb.shape)
    return InitImage(width, height, rgb.clip(0, 255).astype(np.uint8).tobytes())


def a_request(request_id: str = "one", **changes: object) -> GenerationRequest:
    """A small request; `changes` are other values of its fields."""
    values: dict[str, object] = {
        "request_id": request_id,
        "model": "tiny",
        "prompt": "a red cat",
        "width": 64,
        "height": 64,
        "num_inference_steps": 4,
        "guidance_scale": 4.0,
        "seed": 7,
    }
    return GenerationRequest(**(values | changes))  # type: ignore[arg-type]


def open_rows(model: Model, requests: Sequence[GenerationRequest], worn: Sequence[Worn] = ()) -> list[Row]:
    """A row for the first image of each request, all of which wear the same."""
    with torch.inference_mode():
        return [open_row(model, request, 0, model.prompt(request, worn), worn) for request in requests]


def denoise(model: Model, rows: Sequence[Row], joins: Sequence[int] | None = None) -> list[torch.Tensor]:
    """Final latents of rows that step together; row i joins at the batch's step `joins[i]`."""
    stepper, step = Stepper(model), 0
    with torch.inference_mode():
        while not all(row.done for row in rows):
            present = [row for i, row in enumerate(rows) if not row.done and (joins is None or joins[i] <= step)]
            assert stepper.step(present) == {}
            step += 1
    return [row.latents for row in rows]


def relative_error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference, in units of the wanted latents' standard deviation."""
    return float((found - wanted).abs().max() / wanted.std())


def pixels(picture: Picture) -> NDArray[np.int16]:
    """A picture as [height, width, 3], in a type that can be subtracted."""
    return np.frombuffer(picture.rgb, np.uint8).reshape(picture.height, picture.width, 3).astype(np.int16)


@dataclass
class Bench:
    """An engine whose loop runs when a test says so, and everything it delivered.

    Its passes have one thread unless the settings say otherwise: which number is quicker would be tried, and the last bits
    of a picture hang on it.
    """

    load_model: LoadModel
    settings: EngineSettings = field(default_factory=lambda: EngineSettings(device="cpu"))
    models: Sequence[str] = ("tiny",)
    cards: Sequence[ModelCard] = ()  # instead of plain ones of those names
    on_deliver: Callable[[Sequence[EngineEvent]], None] = lambda events: None
    aside: Aside = at_once
    aside_adapters: Aside = at_once
    weigh: Weigh = lambda card, settings: 0
    now: float = 0.0
    starts: int = 0
    deliveries: list[list[EngineEvent]] = field(default_factory=list)

    def __post_init__(self) -> None:
        cards = self.cards or [ModelCard(name=name, source=name) for name in self.models]
        self.engine = Engine(
            cards,
            replace(self.settings, torch_threads=self.settings.torch_threads or 1),
            self._start,
            self._deliver,
            aside=self.aside,
            aside_adapters=self.aside_adapters,
            load_model=self.load_model,
            weigh=self.weigh,
            clock=lambda: self.now,
        )

    def _start(self) -> None:
        self.starts += 1

    def _deliver(self, events: Sequence[EngineEvent]) -> None:
        self.deliveries.append(list(events))
        self.on_deliver(events)

    def paint(self, *requests: GenerationRequest) -> None:
        """Submit requests and run the loop to its end."""
        for request in requests:
            self.engine.submit(request)
        self.engine.run()

    @property
    def events(self) -> list[EngineEvent]:
        """All events so far, in order."""
        return [event for delivery in self.deliveries for event in delivery]

    def of(self, kind: type[AnyEvent], request_id: str | None = None) -> list[AnyEvent]:
        """The events of one kind (and request)."""
        found = [event for event in self.events if isinstance(event, kind)]
        return [event for event in found if request_id in (None, getattr(event, "request_id", None))]

    def end(self, request_id: str) -> Finished | Failed | Canceled:
        """The one terminal event of a request."""
        (event,) = [
            event
            for event in self.events
            if isinstance(event, (Finished, Failed, Canceled)) and event.request_id == request_id
        ]
        return event

    def finished(self, request_id: str) -> Finished:
        """The terminal event of a request that must have succeeded."""
        event = self.end(request_id)
        assert isinstance(event, Finished), event
        return event

    def failed(self, request_id: str) -> Failed:
        """The terminal event of a request that must have failed."""
        event = self.end(request_id)
        assert isinstance(event, Failed), event
        return event
