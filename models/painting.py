"""Paints with a model in a folder, many pictures at once, by the server's own engine: what its users get."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ai.cards import read_card
from ai.engine import Engine
from ai.types import (
    AdapterUse,
    EngineError,
    EngineEvent,
    EngineSettings,
    Failed,
    Finished,
    GenerationRequest,
    ModelUnavailable,
)

_TOGETHER = 20  # samples in a step: little memory, and no slower than more on a CPU


@dataclass(frozen=True, slots=True)
class Wish:
    """One picture: its prompt, the seed of its noise, and the adapter it wears, if any."""

    prompt: str
    seed: int
    style: str = ""


class _Easel:
    """Keeps what an engine delivers: pictures by their requests' ids, and what went wrong first."""

    def __init__(self) -> None:
        self.pictures: dict[str, Image.Image] = {}
        self.error: EngineError | None = None

    def __call__(self, events: Sequence[EngineEvent]) -> None:
        for event in events:
            if isinstance(event, Failed | ModelUnavailable):
                self.error = self.error or event.error
            elif isinstance(event, Finished):
                picture = event.pictures[0]
                self.pictures[event.request_id] = Image.frombytes("RGB", (picture.width, picture.height), picture.rgb)
                if len(self.pictures) % 100 == 0:
                    print(f"{len(self.pictures)} painted", file=sys.stderr, flush=True)


def paint(
    model: Path, wishes: Sequence[Wish], steps: int | None = None, guidance: float | None = None
) -> list[Image.Image]:
    """A picture for each wish, at the card's steps and guidance unless others are given. Raises EngineError."""
    card, easel = read_card(model.name, str(model)), _Easel()
    engine = Engine([card], EngineSettings(max_batch=_TOGETHER), lambda: None, easel)
    for number, wish in enumerate(wishes):
        engine.submit(
            GenerationRequest(
                request_id=str(number),
                model=card.name,
                prompt=wish.prompt,
                width=card.defaults.width,
                height=card.defaults.height,
                num_inference_steps=steps or card.defaults.num_inference_steps,
                guidance_scale=card.defaults.guidance_scale if guidance is None else guidance,
                seed=wish.seed,
                adapters=(AdapterUse(wish.style),) if wish.style else (),
            )
        )
    engine.run()
    if easel.error:
        raise easel.error
    return [easel.pictures[str(number)] for number in range(len(wishes))]
