"""Inputs of models that paint nothing, held against the model's own input_schema. Pure.

A schema names each input with a JSON Schema of it. What is understood of that: type (string, integer, number, boolean, array,
object, or a list of them), enum, minimum, maximum, exclusiveMinimum, exclusiveMaximum, minLength, maxLength, minItems, maxItems,
items, default, and `required` (true: the input must be given). What is not understood is there for people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ai.types import Json
from server.errors import Refusal

FIELD = "input"

_IS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}
_LIMITS: tuple[tuple[str, Callable[[Any, Any], bool], str], ...] = (
    ("minimum", lambda value, limit: value >= limit, "at least {}"),
    ("exclusiveMinimum", lambda value, limit: value > limit, "more than {}"),
    ("maximum", lambda value, limit: value <= limit, "at most {}"),
    ("exclusiveMaximum", lambda value, limit: value < limit, "less than {}"),
)
_SIZES: tuple[tuple[str, Callable[[int, int], bool], str], ...] = (
    ("minLength", lambda size, limit: size >= limit, "at least {} characters"),
    ("maxLength", lambda size, limit: size <= limit, "at most {} characters"),
    ("minItems", lambda size, limit: size >= limit, "at least {} entries"),
    ("maxItems", lambda size, limit: size <= limit, "at most {} entries"),
)


def checked_input(schema: Mapping[str, Mapping[str, Json]], given: Mapping[str, Json]) -> dict[str, Json]:
    """The input with every default filled in; null is the same as left out. Raises Refusal, which names the input and a limit."""
    for name in given:
        if name not in schema:
            limit = f"one of {', '.join(schema)}" if schema else "left out: the model takes none"
            raise Refusal.invalid(f"{FIELD}.{name[:60]}", limit, given[name])
    found: dict[str, Json] = {}
    for name, wanted in schema.items():
        value = given.get(name)
        if value is None:
            value = wanted.get("default")
        if value is not None:
            _check(f"{FIELD}.{name}", wanted, value)
            found[name] = value
        elif wanted.get("required"):
            raise Refusal.invalid(f"{FIELD}.{name}", "given", None)
    return found


def _check(field: str, wanted: Mapping[str, Json], value: Json) -> None:
    """Raises Refusal."""
    _check_type(field, wanted.get("type"), value)
    choices = wanted.get("enum")
    if choices is not None and value not in choices:
        raise Refusal.invalid(field, f"one of {', '.join(map(str, choices))}", value)
    if _IS["number"](value):
        _check_against(field, _LIMITS, wanted, value, value)
    elif isinstance(value, (str, list)):
        sizes = _SIZES[:2] if isinstance(value, str) else _SIZES[2:]
        _check_against(field, sizes, wanted, len(value), value)
    if isinstance(value, list) and isinstance(items := wanted.get("items"), dict):
        for index, entry in enumerate(value):
            _check(f"{field}[{index}]", items, entry)


def _check_type(field: str, wanted: Json, value: Json) -> None:
    kinds = [wanted] if isinstance(wanted, str) else [one for one in wanted or () if isinstance(one, str)]
    known = [kind for kind in kinds if kind in _IS]
    if known and not any(_IS[kind](value) for kind in known):
        raise Refusal.invalid(field, f"of type {' or '.join(known)}", value)


def _check_against(
    field: str,
    rules: tuple[tuple[str, Callable[[Any, Any], bool], str], ...],
    wanted: Mapping[str, Json],
    measured: float,
    value: Json,
) -> None:
    broken = [
        text.format(wanted[word]) for word, holds, text in rules if word in wanted and not holds(measured, wanted[word])
    ]
    if broken:
        all_limits = [text.format(wanted[word]) for word, _, text in rules if word in wanted]
        raise Refusal.invalid(field, ", ".join(all_limits), value)
