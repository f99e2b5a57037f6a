"""What a request costs, as limits count it: a number that grows with the work, known before anything is done."""

from __future__ import annotations

from ai.types import GenerationRequest

PIXELS = 1_000_000  # a megapixel, as photographers have it


def cost_of(request: GenerationRequest) -> float:
    """Megapixels × steps made × images: 20 steps of one 512 × 512 picture cost 5.24."""
    steps = request.num_inference_steps - request.first_step
    return request.width * request.height / PIXELS * steps * request.num_images
