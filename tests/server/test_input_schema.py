"""Inputs held against a model's schema."""

from __future__ import annotations

from typing import Any

import pytest

from server.errors import Code, Refusal
from server.input_schema import checked_input

SCHEMA: dict[str, dict[str, Any]] = {
    "prompt": {"type": "string", "minLength": 1, "maxLength": 5, "required": True},
    "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
    "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    "style": {"type": "string", "enum": ["ink", "chalk"], "default": "ink"},
    "stops": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 2, "default": []},
    "loud": {"type": ["boolean", "null"]},
    "odd": {"type": "colour", "format": "hex"},
}


def test_defaults_are_filled_in_and_null_is_left_out() -> None:
    """What has no default and is not given is not there."""
    found = checked_input(SCHEMA, {"prompt": "a", "count": None, "share": 0.5, "odd": "#fff"})
    assert found == {"prompt": "a", "count": 3, "share": 0.5, "style": "ink", "stops": [], "odd": "#fff"}


@pytest.mark.parametrize(
    ("given", "field", "limit"),
    [
        ({}, "input.prompt", "given"),
        ({"prompt": ""}, "input.prompt", "at least 1 characters, at most 5 characters"),
        ({"prompt": "too long"}, "input.prompt", "at least 1 characters, at most 5 characters"),
        ({"prompt": 3}, "input.prompt", "of type string"),
        ({"prompt": "a", "count": 0}, "input.count", "at least 1, at most 9"),
        ({"prompt": "a", "count": 10}, "input.count", "at least 1, at most 9"),
        ({"prompt": "a", "count": 1.5}, "input.count", "of type integer"),
        ({"prompt": "a", "count": True}, "input.count", "of type integer"),
        ({"prompt": "a", "share": 0}, "input.share", "more than 0, less than 1"),
        ({"prompt": "a", "share": 1}, "input.share", "more than 0, less than 1"),
        ({"prompt": "a", "style": "oil"}, "input.style", "one of ink, chalk"),
        ({"prompt": "a", "stops": ["x", ""]}, "input.stops[1]", "at least 1 characters"),
        ({"prompt": "a", "stops": ["x", "y", "z"]}, "input.stops", "at most 2 entries"),
        ({"prompt": "a", "stops": "x"}, "input.stops", "of type array"),
        ({"prompt": "a", "loud": "yes"}, "input.loud", "of type boolean or null"),
        ({"prompt": "a", "promt": "b"}, "input.promt", "one of prompt, count, share, style, stops, loud, odd"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(given: dict[str, Any], field: str, limit: str) -> None:
    """With the limit that it broke."""
    with pytest.raises(Refusal) as refused:
        checked_input(SCHEMA, given)
    assert (refused.value.code, refused.value.field, refused.value.limit) == (Code.INVALID_PARAMETER, field, limit)
