"""What a request costs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ai.types import GenerationRequest
from server.metering.cost import cost_of

REQUEST = GenerationRequest(
    request_id="job-1", model="demo", prompt="a star", width=512, height=512, num_inference_steps=20, guidance_scale=4,
    seed=1,
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "cost"),
    [
        ({}, 5.24288),
        ({"num_images": 4}, 20.97152),
        ({"width": 1024, "height": 1024}, 20.97152),
        ({"num_inference_steps": 1}, 0.262144),
        ({"strength": 0.5}, 2.62144),  # of the steps only those that are made count
    ],
)
def test_a_request_costs_its_megapixels_by_the_steps_that_are_made(changes: dict[str, float], cost: float) -> None:
    """Of all its images."""
    assert cost_of(replace(REQUEST, **changes)) == pytest.approx(cost)  # type: ignore[arg-type]
