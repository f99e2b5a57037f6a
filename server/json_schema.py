"""What a model takes, by name, in JSON Schema's words; whether a schema is one, and whether an input keeps to it. Pure.

    {"prompt": {"type": "string", "description": "…"},
     "num_inference_steps": {"type": "integer", "default": 20, "minimum": 1, "maximum": 30},
     "scheduler": {"type": "string", "enum": ["euler", "ddim"]}}

Each entry is a schema (draft 2020-12) of one input, and may say "required": true. References are refused, so that nothing is ever
looked up elsewhere; patterns are matched in linear time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import jsonschema_rs

from server.errors import Refusal

Schema = Mapping[str, Mapping[str, Any]]

FIELD = "input_schema"
MAX_BYTES = 64_000  # a model with fifty well described inputs has ten
MAX_INPUTS = 100
KEYWORDS = frozenset(
    {
        "type", "title", "description", "default", "required", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "multipleOf", "enum", "const", "format", "minLength", "maxLength", "pattern", "items", "minItems", "maxItems",
        "uniqueItems", "examples", "x-order",
    }
)  # fmt: skip
_TYPES = {"str": "string", "text": "string", "int": "integer", "float": "number", "bool": "boolean", "list": "array"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_PATTERNS = jsonschema_rs.RegexOptions()  # of the two engines the one that never goes back


def checked_schema(given: object, *, known: frozenset[str] | None = None) -> dict[str, dict[str, Any]]:
    """The schema, with Python's words for types in JSON's. `known` are the only inputs that there are, where that is so.

    Raises Refusal, which names the input, or the keyword.
    """
    if not isinstance(given, Mapping):
        raise Refusal.invalid(FIELD, "an object: the name of each input, and its schema", given)
    if len(given) > MAX_INPUTS or len(json.dumps(given, default=str)) > MAX_BYTES:
        raise Refusal.invalid(FIELD, f"at most {MAX_INPUTS} inputs in {MAX_BYTES} bytes", f"{len(given)} inputs")
    return {name: _checked(name, one, known) for name, one in given.items()}


def applied(schema: Schema, given: Mapping[str, Any], *, closed: bool = True, place: str = "input") -> dict[str, Any]:
    """The input with defaults for what was left out, or null. `closed`: nothing may come that the schema does not have.

    Raises Refusal, which names `place`.NAME and what would have been taken.
    """
    told = {name: value for name, value in given.items() if value is not None}
    if closed:
        for name in told:
            if name not in schema:
                raise Refusal.invalid(_field(place, name[:100]), f"one of {', '.join(schema) or 'none'}", told[name])
    for name, one in schema.items():
        if name in told:
            check_value(_field(place, name), one, told[name])
        elif "default" in one:
            told[name] = one["default"]
        elif one.get("required"):
            raise Refusal.invalid(_field(place, name), "given", None)
    return told


def check_value(field: str, one: Mapping[str, Any], value: object) -> None:
    """Raise Refusal unless the value keeps to the schema of its input."""
    validator = _validator(json.dumps(_plain(one), sort_keys=True))
    problem = next(iter(validator.iter_errors(value)), None)
    if problem is not None:
        inside = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in problem.instance_path)
        raise Refusal.invalid(f"{field}{inside}", limit_of(one), value)


def limit_of(one: Mapping[str, Any]) -> str:
    """What would be taken, for people."""
    if "enum" in one:
        return f"one of {', '.join(map(str, one['enum']))}"[:500]
    words = [_KINDS.get(str(one.get("type", "")), "a value")]
    low, high = one.get("minimum"), one.get("maximum")
    if low is not None and high is not None:
        words.append(f"from {low} to {high}")
    elif low is not None or high is not None:
        words.append(f"of at least {low}" if high is None else f"of at most {high}")
    rest = {name: value for name, value in one.items() if name in _TOLD}
    words += [f"with {name} {value}" for name, value in rest.items()]
    return " ".join(words)[:500]


_KINDS = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "an object",
}
_TOLD = KEYWORDS - {
    "type", "title", "description", "default", "required", "minimum", "maximum", "enum", "examples", "x-order", "items"
}  # fmt: skip


def _checked(name: object, one: object, known: frozenset[str] | None) -> dict[str, Any]:
    field = f"{FIELD}.{str(name)[:100]}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refusal.invalid(field, "a name of 1 to 64 letters, digits, _ and -", name)
    if known is not None and name not in known:
        raise Refusal.invalid(field, f"an input that such a model has: {', '.join(sorted(known))}", name)
    if not isinstance(one, Mapping):
        raise Refusal.invalid(field, "a schema: an object with a type", one)
    for word in one:
        if word not in KEYWORDS:
            raise Refusal.invalid(f"{field}.{str(word)[:60]}", f"one of {', '.join(sorted(KEYWORDS))}", one[word])
    schema = {word: value for word, value in one.items() if value is not None}
    if isinstance(schema.get("type"), str):
        schema["type"] = _TYPES.get(schema["type"], schema["type"])
    if "items" in schema:
        schema["items"] = _checked("items", schema["items"], None)
    if not isinstance(schema.get("required", False), bool):
        raise Refusal.invalid(f"{field}.required", "true or false", schema["required"])
    _check_meta(field, schema)
    if "default" in schema:
        check_value(f"{field}.default", schema, schema["default"])
        if schema.get("type") == "integer":
            schema["default"] = int(schema["default"])  # 20.0 is a whole number to JSON Schema
    return schema


def _check_meta(field: str, schema: Mapping[str, Any]) -> None:
    plain = _plain(schema)
    try:
        jsonschema_rs.meta.validate(plain)
        _validator(json.dumps(plain, sort_keys=True))
    except (jsonschema_rs.ValidationError, ValueError) as error:
        word = next((str(part) for part in getattr(error, "instance_path", ())), "")
        problem = str(error).partition("\n")[0]
        raise Refusal.invalid(
            f"{field}.{word}" if word else field, f"JSON Schema ({problem})", plain.get(word, plain)
        ) from None
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None and high is not None and low > high:
        raise Refusal.invalid(f"{field}.minimum", f"at most its maximum, {high}", low)
    if "enum" in schema and not schema["enum"]:
        raise Refusal.invalid(f"{field}.enum", "a list with something in it", schema["enum"])


def _plain(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON Schema itself knows."""
    return {word: value for word, value in schema.items() if word not in ("required", "x-order")}


@lru_cache(1024)
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(json.loads(schema), pattern_options=_PATTERNS)


def _field(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
