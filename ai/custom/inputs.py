"""From `predict`'s annotations to a schema, and from JSON to its arguments. In the model's own process.

Pydantic reads the annotations: `Annotated[int, Field(ge=1, le=4, description="…")] = 2` is an integer of 1 to 4. What is told of
them is a flat schema, name → {type, description, default or required, minimum, maximum, enum, …}.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from ai.custom.authoring import FILE

_ORDINARY = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class BadSignature(Exception):
    """`predict` is written so that nothing can be told of what it takes."""


class BadInput(Exception):
    """An input is missing, unknown or does not fit: `field` is which."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class Inputs:
    """What a class's `predict` takes beside itself. Raises BadSignature."""

    def __init__(self, predict: Callable[..., Any]) -> None:
        try:
            hints = get_type_hints(predict, include_extras=True)
            parameters = list(inspect.signature(predict).parameters.values())[1:]
        except (NameError, TypeError, ValueError) as error:
            raise BadSignature(f"predict: its annotations cannot be read: {error}") from error
        self._names: dict[str, str] = {}  # of pydantic's fields, which may not be called as the arguments are ("copy")
        fields: dict[str, Any] = {}
        for parameter in parameters:
            if parameter.kind not in _ORDINARY:
                raise BadSignature(f"predict: {parameter.name}: * and / are not for predict")
            if parameter.name not in hints:
                raise BadSignature(f"predict: {parameter.name}: has no annotation")
            default = ... if parameter.default is inspect.Parameter.empty else parameter.default
            field = f"argument_{len(fields)}"
            self._names[field] = parameter.name
            fields[field] = (Annotated[hints[parameter.name], Field(alias=parameter.name)], default)
        try:
            self._model: type[BaseModel] = create_model(
                "Input", __config__=ConfigDict(extra="forbid", strict=True), **fields
            )
            self.schema = _flat(self._model.model_json_schema())
        except (PydanticSchemaGenerationError, PydanticUserError, NameError, TypeError, ValueError) as error:
            raise BadSignature(f"predict: {_first_line(error)}") from error

    def read(self, given: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, Any]:
        """The arguments. Raises BadInput for the first that does not fit."""
        named = {FILE + name: data for name, data in files.items()}
        whole = {**given, **{name: FILE + name for name in files}}
        try:  # from JSON and not from Python: there a list may become a tuple, or a text an enumeration
            read = self._model.model_validate_json(json.dumps(whole), context=named)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(map(str, first["loc"]))
            raise BadInput(place, first["msg"].removeprefix("Value error, ")) from None
        return {name: getattr(read, field) for field, name in self._names.items()}


def _flat(schema: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The properties, each complete in itself."""
    definitions = schema.get("$defs", {})
    return {name: _property(_resolved(told, definitions)) for name, told in schema.get("properties", {}).items()}


def _resolved(told: Any, definitions: Mapping[str, Any], depth: int = 0) -> Any:
    if depth > 20:
        raise BadSignature("predict: an argument's type holds itself")
    if isinstance(told, dict):
        if (place := told.get("$ref")) is not None:
            rest = {key: value for key, value in told.items() if key != "$ref"}
            told = {**definitions[place.removeprefix("#/$defs/")], **rest}
        return {key: _resolved(value, definitions, depth + 1) for key, value in told.items()}
    return [_resolved(value, definitions, depth + 1) for value in told] if isinstance(told, list) else told


def _property(told: dict[str, Any]) -> dict[str, Any]:
    """Without the title that Pydantic makes of the name; `X | None` is X that may be left out, `required` what may not."""
    choices = [choice for choice in told.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1 and len(told["anyOf"]) == 2 and told.get("default", ...) is None:
        told = {**choices[0], **{key: value for key, value in told.items() if key != "anyOf"}}
    told = {key: value for key, value in told.items() if key != "title"}
    return told if "default" in told else {**told, "required": True}


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
