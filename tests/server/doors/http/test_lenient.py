"""Numbers and truths of the SDXL dialect: read as described, and described as read."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from server.doors.http.lenient import NUMBER, TRUTH, WHOLE, LenientBool, LenientFloat, LenientInt
from tests.server.doors.http.door import Door

KINDS: dict[str, tuple[Any, str]] = {
    "int": (LenientInt, WHOLE),
    "float": (LenientFloat, NUMBER),
    "bool": (LenientBool, TRUTH),
}


def read(kind: str, value: object) -> Any:
    """What becomes of a value; "refused" where it is none."""
    try:
        return TypeAdapter(KINDS[kind][0]).validate_python(value)
    except ValidationError:
        return "refused"


@pytest.mark.parametrize(
    ("kind", "value", "meant"),
    [
        ("int", 8, 8), ("int", "8", 8), ("int", "8.0", 8), ("int", 8.0, 8), ("int", "-3", -3), ("int", None, None),
        ("int", True, "refused"), ("int", False, "refused"), ("int", "8.5", "refused"), ("int", 8.5, "refused"),
        ("int", " 8", "refused"), ("int", "1_0", "refused"), ("int", "8\n", "refused"), ("int", "", "refused"),
        ("int", "٣", "refused"), ("int", [8], "refused"),
        ("float", 7, 7.0), ("float", "7.5", 7.5), ("float", ".5", 0.5), ("float", "1e1", 10.0), ("float", None, None),
        ("float", False, "refused"), ("float", "nan", "refused"), ("float", "inf", "refused"), ("float", "0x1", "refused"),
        ("bool", True, True), ("bool", "true", True), ("bool", "False", False), ("bool", 1, True), ("bool", "0", False),
        ("bool", "on", True), ("bool", 2, "refused"), ("bool", "t", "refused"), ("bool", "maybe", "refused"),
    ],
)  # fmt: skip
def test_what_is_taken(kind: str, value: object, meant: object) -> None:
    """JSON's own, or a text that forms have; a truth is no number."""
    assert read(kind, value) == meant
    assert type(read(kind, value)) is type(meant)


@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_a_text_is_taken_exactly_where_its_description_says_so(kind: str, data: st.DataObject) -> None:
    """Whatever it is."""
    pattern = KINDS[kind][1]
    near = st.text("0123456789.eE+-_ ", max_size=8)
    text = data.draw(st.one_of(st.text(max_size=8), st.from_regex(pattern, fullmatch=True), near))
    fits = re.fullmatch(pattern.removesuffix("$"), text) is not None
    assert (read(kind, text) != "refused") == fits


async def test_a_truth_is_refused_where_a_number_is_wanted() -> None:
    """By its field, as everything out of range is."""
    door = Door()
    for field, value in (("steps", True), ("refiner_strength", False), ("seed", "7 "), ("use_refiner", "maybe")):
        refused = await door.ask("POST", "/api/v1/generate", {"prompt": "a star", field: value})
        assert (refused.status, refused.json()["error"]["details"]["field"]) == (422, field)
