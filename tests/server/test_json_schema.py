"""What a model takes: schemas that are none, inputs that do not fit."""

from __future__ import annotations

from typing import Any

import pytest

from server.errors import Code, Refusal
from server.json_schema import applied, checked_schema

STEPS: dict[str, Any] = {"type": "integer", "default": 20, "minimum": 1, "maximum": 30}
SCHEMA: dict[str, dict[str, Any]] = {
    "prompt": {"type": "string", "required": True},
    "steps": STEPS,
    "mode": {"type": "string", "enum": ["a", "b"]},
}


def test_defaults_are_filled_in() -> None:
    """For what is left out, or null; what is given stays."""
    assert applied(SCHEMA, {"prompt": "x", "steps": None}) == {"prompt": "x", "steps": 20}
    assert applied(SCHEMA, {"prompt": "x", "steps": 3, "mode": "b"}) == {"prompt": "x", "steps": 3, "mode": "b"}


@pytest.mark.parametrize(
    ("given", "field", "limit"),
    [
        ({"prompt": "x", "steps": 31}, "input.steps", "a whole number from 1 to 30"),
        ({"prompt": "x", "steps": 1.5}, "input.steps", "a whole number from 1 to 30"),
        ({"prompt": "x", "steps": "9"}, "input.steps", "a whole number from 1 to 30"),
        ({"prompt": 7}, "input.prompt", "a text"),
        ({"prompt": "x", "mode": "c"}, "input.mode", "one of a, b"),
        ({}, "input.prompt", "given"),
        ({"prompt": "x", "speed": 1}, "input.speed", "one of prompt, steps, mode"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given: dict[str, Any], field: str, limit: str) -> None:
    """With what would have been taken."""
    with pytest.raises(Refusal) as caught:
        applied(SCHEMA, given)
    assert (caught.value.code, caught.value.field, caught.value.limit) == (Code.INVALID_PARAMETER, field, limit)


def test_an_open_schema_says_nothing_of_other_inputs() -> None:
    """They pass as they are."""
    assert applied({"steps": STEPS}, {"prompt": "x"}, closed=False, place="") == {"prompt": "x", "steps": 20}


def test_a_schema_in_pythons_words_is_one() -> None:
    """As clients of such platforms write them."""
    schema = checked_schema({"a": {"type": "int"}, "b": {"type": "str", "default": "x", "enum": None}})
    assert schema == {"a": {"type": "integer"}, "b": {"type": "string", "default": "x"}}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ([], "input_schema"),
        ({"a": 7}, "input_schema.a"),
        ({"a b": {"type": "string"}}, "input_schema.a b"),
        ({"a": {"type": "colour"}}, "input_schema.a.type"),
        ({"a": {"type": "integer", "minimum": "low"}}, "input_schema.a.minimum"),
        ({"a": {"type": "integer", "minimum": 9, "maximum": 3}}, "input_schema.a.minimum"),
        ({"a": {"type": "integer", "default": "x"}}, "input_schema.a.default"),
        ({"a": {"type": "integer", "default": 40, "maximum": 30}}, "input_schema.a.default"),
        ({"a": {"type": "string", "enum": []}}, "input_schema.a.enum"),
        ({"a": {"type": "string", "pattern": "("}}, "input_schema.a.pattern"),
        ({"a": {"$ref": "http://169.254.169.254/"}}, "input_schema.a.$ref"),
        ({"a": {"type": "string", "required": "yes"}}, "input_schema.a.required"),
        ({"a": {"type": "array", "items": {"type": "colour"}}}, "input_schema.items.type"),
        ({f"a{n}": {"type": "string"} for n in range(101)}, "input_schema"),
    ],
)
def test_a_schema_that_is_no_schema_is_refused(schema: object, field: str) -> None:
    """By the name of what is wrong in it."""
    with pytest.raises(Refusal) as caught:
        checked_schema(schema)
    assert caught.value.code is Code.INVALID_PARAMETER
    assert caught.value.field == field


def test_an_input_that_the_kind_of_model_does_not_have_is_refused() -> None:
    """A schema may narrow what there is, and invents nothing."""
    with pytest.raises(Refusal, match="colour"):
        checked_schema({"colour": {"type": "string"}}, known=frozenset({"prompt"}))


def test_a_pattern_takes_no_time() -> None:
    """However it was written to."""
    schema = checked_schema({"a": {"type": "string", "pattern": "^(a+)+$"}})
    with pytest.raises(Refusal):
        applied(schema, {"a": "a" * 10_000 + "!"})
