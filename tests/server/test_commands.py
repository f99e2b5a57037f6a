"""Commands check, when made, what no server would take."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.commands import MAX_ADAPTERS, MAX_IDEMPOTENCY_KEY, MAX_IMAGES, AdapterUse, Submit, check_adapter_count
from server.errors import Code, Refusal

NAN, INF = float("nan"), float("inf")

BAD: list[tuple[str, Any, str, str]] = [
    ("prompt", "", "prompt", "at least 1 character"),
    ("prompt", " \t\n\u3000", "prompt", "at least 1 character"),
    ("num_images", 0, "num_images", "1 to 4"),
    ("num_images", 5, "num_images", "1 to 4"),
    ("num_images", 2**32 - 1, "num_images", "1 to 4"),
    ("priority", -101, "priority", "-100 to 100"),
    ("priority", 101, "priority", "-100 to 100"),
    ("seed", -1, "seed", "0 to 9223372036854775803"),
    ("seed", 2**63 - 4, "seed", "0 to 9223372036854775803"),
    ("seed", 2**64 - 1, "seed", "0 to 9223372036854775803"),
    ("guidance_scale", NAN, "guidance_scale", "0 to 50"),
    ("guidance_scale", INF, "guidance_scale", "0 to 50"),
    ("guidance_scale", -INF, "guidance_scale", "0 to 50"),
    ("guidance_scale", -0.001, "guidance_scale", "0 to 50"),
    ("guidance_scale", 50.001, "guidance_scale", "0 to 50"),
    ("refiner_strength", -0.01, "refiner_strength", "0 to 1"),
    ("refiner_strength", 1.01, "refiner_strength", "0 to 1"),
    ("refiner_strength", NAN, "refiner_strength", "0 to 1"),
    ("deadline_seconds", 0.0, "deadline_seconds", "more than 0"),
    ("deadline_seconds", -1.0, "deadline_seconds", "more than 0"),
    ("deadline_seconds", NAN, "deadline_seconds", "more than 0"),
    ("deadline_seconds", INF, "deadline_seconds", "more than 0"),
    ("idempotency_key", "k" * 201, "idempotency_key", "at most 200 characters"),
    ("adapters", (AdapterUse("x"),) * 9, "adapters", "at most 8"),
    ("adapters", (AdapterUse("x"), AdapterUse("")), "adapters[1].name", "the name of an adapter"),
    ("adapters", (AdapterUse("x", NAN),), "adapters[0].scale", "a finite number"),
    ("adapters", (AdapterUse("x"), AdapterUse("y", -INF)), "adapters[1].scale", "a finite number"),
]

GOOD: list[tuple[str, Any]] = [
    ("prompt", "x"),
    ("prompt", "\u3000별"),
    ("num_images", 1),
    ("num_images", MAX_IMAGES),
    ("priority", -100),
    ("priority", 100),
    ("seed", 0),
    ("seed", 2**63 - 5),
    ("guidance_scale", 0.0),
    ("guidance_scale", 50.0),
    ("refiner_strength", 0.0),
    ("refiner_strength", 1.0),
    ("deadline_seconds", 1e-9),
    ("deadline_seconds", 1e300),
    ("idempotency_key", "k" * MAX_IDEMPOTENCY_KEY),
    ("adapters", (AdapterUse("x", -2.0),) * MAX_ADAPTERS),
]


@pytest.mark.parametrize(("name", "value", "field", "limit"), BAD)
def test_a_value_out_of_range_is_refused_by_name(name: str, value: Any, field: str, limit: str) -> None:
    """The refusal names the field as it stands in the protocol, and what would have been taken."""
    with pytest.raises(Refusal) as caught:
        Submit(owner="ada", **{"prompt": "a star", name: value})
    assert caught.value.code is Code.INVALID_PARAMETER
    assert caught.value.field == field
    assert limit in caught.value.limit
    assert field in str(caught.value)


@pytest.mark.parametrize(("name", "value"), GOOD)
def test_the_bounds_themselves_are_taken(name: str, value: Any) -> None:
    """A limit that is told is one that may be used."""
    assert getattr(Submit(owner="ada", **{"prompt": "a star", name: value}), name) == value


@given(st.floats())
def test_no_number_slips_past_the_range_of_guidance(value: float) -> None:
    """Every float there is, NaN among them, is either in the range or refused."""
    try:
        Submit(owner="ada", prompt="a star", guidance_scale=value)
    except Refusal:
        assert not 0 <= value <= 50
    else:
        assert 0 <= value <= 50


def test_seeds_leave_room_for_every_image() -> None:
    """The largest seed and the largest number of images give seeds that a generator takes."""
    command = Submit(owner="ada", prompt="a star", seed=2**63 - 5, num_images=MAX_IMAGES)
    assert command.seed is not None
    assert command.seed + command.num_images - 1 < 2**63


def test_commands_are_frozen() -> None:
    """Nobody changes a request on its way."""
    with pytest.raises(AttributeError):
        Submit(owner="ada", prompt="a star").prompt = "another"  # type: ignore[misc]


def test_adapters_are_counted_before_they_are_made() -> None:
    """A door may refuse half a million adapters without making an object of each."""
    check_adapter_count(MAX_ADAPTERS)
    with pytest.raises(Refusal, match="at most 8"):
        check_adapter_count(500_000)
