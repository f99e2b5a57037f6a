"""Results on stdout: JSON, or the wire's messages as a person reads them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message


def print_json(plain: Mapping[str, Any]) -> None:
    """One object, on one line."""
    print(json.dumps(plain, ensure_ascii=False), flush=True)


def as_plain(message: Message) -> dict[str, Any]:
    """A message with every field, numbers as numbers and enums by their names in proto/atelier.proto."""
    return {field.name: _value(message, field) for field in message.DESCRIPTOR.fields}


def _value(message: Message, field: Any) -> Any:
    value = getattr(message, field.name)
    if field.has_presence and field.message_type is None and not message.HasField(field.name):
        return None  # a number that nobody knows is not 0
    if field.is_repeated:
        return [_one(field, item) for item in value]
    return _one(field, value)


def _one(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return as_plain(value)
    if field.enum_type is not None:
        name = field.enum_type.values_by_number.get(value)
        return name.name if name is not None else value
    return value
