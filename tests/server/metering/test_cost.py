"""What a request costs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ai.custom.cards import ClassPath, CustomCard
from ai.text.cards import TextCard
from ai.types import CustomRequest, GenerationRequest, TextRequest
from server.errors import Code, Refusal
from server.metering.cost import Costs, cost_of

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


TEXT = TextRequest(
    request_id="job-1", model="words", prompt="", max_length=500, temperature=1, top_p=1, top_k=0, seed=1
)
WORDS = TextCard(name="words", source="models/words")
CALL = CustomRequest(request_id="job-1", model="scaler")
SCALER = CustomCard(name="scaler", path=ClassPath("a.b", "C"))


def test_a_text_costs_what_its_tokens_may_be_as_the_settings_say() -> None:
    """One for a thousand, where they say nothing; so does one that an older version has recorded."""
    assert cost_of(TEXT) == cost_of(Costs().put_on(TEXT, WORDS)) == 0.5
    assert cost_of(Costs(thousand_tokens=4.0).put_on(TEXT, WORDS)) == 2.0
    assert cost_of(Costs(thousand_tokens=0.0).put_on(TEXT, WORDS)) == 0.0


@pytest.mark.parametrize(
    ("given", "cost"),
    [
        ({"times": 4, "text": "x" * 500, "words": ["a", "b"]}, 1.0 + 2.0 + 5.0 + 0.2),
        ({"times": -4, "text": "", "words": []}, 1.0),
        ({"times": 0.5, "text": None}, 1.25),
        ({}, 1.0),
    ],
)
def test_a_class_may_have_a_call_cost_by_its_inputs(given: Any, cost: float) -> None:
    """A number by its value, a text by its thousand characters, a list by its items; the call's own cost is beside it."""
    card = replace(SCALER, cost_by={"times": 0.5, "text": 10.0, "words": 0.1})
    assert cost_of(Costs().put_on(replace(CALL, input=given), card)) == pytest.approx(cost)
    assert cost_of(Costs().put_on(replace(CALL, input=given), replace(card, cost=3.0))) == pytest.approx(cost + 2.0)


def test_a_custom_model_s_call_costs_what_its_class_says_or_the_settings() -> None:
    """A class that says nothing has the settings' cost."""
    assert cost_of(Costs(custom=3.0).put_on(CALL, SCALER)) == 3.0
    assert cost_of(Costs(custom=3.0).put_on(CALL, replace(SCALER, cost=0.25))) == 0.25


@pytest.mark.parametrize("times", [10**400, 10**308, 1e308, float("inf"), 2_000_000_000_001])
def test_a_call_whose_cost_is_beyond_all_measure_is_refused_by_its_input(times: float) -> None:
    """An integer may be no float at all, and one infinite cost would be every later sum's."""
    card = replace(SCALER, cost_by={"text": 10.0, "times": 0.5})
    with pytest.raises(Refusal) as refused:
        Costs().put_on(replace(CALL, input={"text": "x", "times": times}), card)
    assert (refused.value.code, refused.value.field) == (Code.INVALID_PARAMETER, "input.times")
    assert refused.value.limit == "at most 2e+12, by what it costs"
    assert cost_of(Costs().put_on(replace(CALL, input={"times": 2_000_000_000_000}), card)) == 1e12 + 1
