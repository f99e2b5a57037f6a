"""Orders and visits for tests, with the times given."""

from __future__ import annotations

from bot.choosing import Conduct, Order
from bot.visit import Visit


class Watch:
    """A run's clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def order(number: int = 0, **changed: object) -> Order:
    """A polite visitor's."""
    fields: dict[str, object] = {
        "number": number, "mix": "", "conduct": Conduct.POLITE, "moment": 0.5, "prompt": "a red star", "negative_prompt": "",
        "width": None, "height": None, "num_inference_steps": 2, "guidance_scale": None, "styles": (), "solver": "",
        "priority": 0, "num_images": 1, "signature": "", "preview_every_steps": 0, "seed": 7,
    }  # fmt: skip
    return Order(**(fields | changed))  # type: ignore[arg-type]


def visit(watch: Watch, intended: float = 0.0, **changed: object) -> tuple[Visit, list[str]]:
    """A visit, and where what is wrong with it is kept."""
    wrongs: list[str] = []
    return Visit(order(**changed), "key", intended, watch, complain=lambda _, wrong: wrongs.append(wrong)), wrongs  # type: ignore[arg-type]
