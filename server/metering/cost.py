"""What a request costs, as limits count it: a number that grows with the work, known before anything is done."""

from __future__ import annotations

from ai.types import GenerationRequest, Request

PIXELS = 1_000_000  # a megapixel, as photographers have it


def cost_of(request: Request) -> float:
    """Megapixels × steps made × images: 20 steps of one 512 × 512 picture cost 5.24. What paints nothing costs nothing: it is
    counted by the rates of requests."""
    if not isinstance(request, GenerationRequest):
        return 0.0
    return request.width * request.height / PIXELS * request.steps * request.num_images
