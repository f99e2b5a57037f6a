"""What the engine itself cannot do without in a request; the limits of a server are checked by whoever made it."""

from __future__ import annotations

import math

from ai.cards import ModelCard
from ai.types import AdapterError, GenerationError, GenerationRequest, InitImage


def check_request(request: GenerationRequest, card: ModelCard) -> None:
    """Raise GenerationError or AdapterError, naming the field, for what cannot be painted with the card's model."""
    for name, value in (("width", request.width), ("height", request.height)):
        if value < card.min_size or value % card.size_multiple:
            raise GenerationError(
                f"{name}: must be a multiple of {card.size_multiple} and at least {card.min_size}, is {value}"
            )
    if request.solver not in card.solvers:
        raise GenerationError(f"solver: must be one of {', '.join(card.solvers)}, is {request.solver[:64]!r}")
    most = card.most_steps.get(request.solver)
    if most is not None and request.num_inference_steps > most:
        raise GenerationError(
            f"num_inference_steps: must be at most {most} with {request.solver}, is {request.num_inference_steps}"
        )
    if request.num_images < 1:
        raise GenerationError(f"num_images: must be at least 1, is {request.num_images}")
    if request.init_image is not None:
        _check_init_image(request, request.init_image)
    elif request.strength:
        raise GenerationError("strength: goes with an init_image")
    if request.refiner_strength:  # not for NaN either
        _check_refiner(request.refiner_strength, card)
    for use in request.adapters:
        if use.name not in card.adapters and use.name not in request.adapter_files:
            raise AdapterError(f"adapters: {card.name} has no {use.shown[:64]!r}")
        if not math.isfinite(use.scale):
            raise GenerationError(f"adapters: the scale of {use.shown[:64]} must be a finite number, is {use.scale}")


def _check_refiner(share: float, card: ModelCard) -> None:
    if card.refiner is None:
        raise GenerationError(f"refiner_strength: {card.name} has no refiner")
    if not 0 <= share <= 1:
        raise GenerationError(f"refiner_strength: must be 0 to 1, is {share}")


def _check_init_image(request: GenerationRequest, image: InitImage) -> None:
    if (image.width, image.height) != (request.width, request.height):
        raise GenerationError(
            f"init_image: must be {request.width} × {request.height} pixels, is {image.width} × {image.height}"
        )
    if len(image.rgb) != image.width * image.height * 3:
        raise GenerationError(f"init_image: must have {image.width * image.height * 3} bytes, has {len(image.rgb)}")
    if not 0 < request.strength <= 1:
        raise GenerationError(f"strength: must be more than 0 and at most 1, is {request.strength}")
