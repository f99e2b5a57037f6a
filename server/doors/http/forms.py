"""Forms with files (multipart/form-data): texts checked by a model as JSON would be, files as bytes.

A form's values are texts, so that numbers and truths are read from them; a field that is not known, or comes twice, is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from server.doors.http import multipart
from server.doors.http.multipart import MULTIPART
from server.errors import Refusal

Model = TypeVar("Model", bound=BaseModel)


async def read_form(
    request: Request, model: type[Model], files: Collection[str]
) -> tuple[Model, Mapping[str, list[bytes]]]:
    """The texts as a model, and the contents of each of `files` that came. Raises Refusal, RequestValidationError."""
    form = await multipart.read_form(request)
    for name in (*form.fields, *form.uploads):
        if (name in form.uploads) != (name in files):
            raise Refusal.invalid(name[:100], "a file" if name in files else "a text", "the other")
    texts = {name: values[0] for name, values in form.fields.items()}
    for name, values in form.fields.items():
        if len(values) > 1:
            raise Refusal.invalid(name[:100], "given once", values[1])
    contents = {name: [upload.data for upload in uploads] for name, uploads in form.uploads.items()}
    return checked(model, texts), contents


def checked(model: type[Model], given: Mapping[str, Any]) -> Model:
    """Texts as a model. Raises RequestValidationError."""
    try:
        return model.model_validate(given, strict=False)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors(include_url=False)]
        raise RequestValidationError(problems) from None


def _as_text(field: dict[str, Any]) -> dict[str, Any]:
    """A field of a form: what is left out is not null, and what is deeper than a text is JSON."""
    told = {name: value for name, value in field.items() if name in ("description", "title")}
    (kind,) = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    if "contentSchema" in kind:
        kind = {"type": "string", "contentMediaType": "application/json"}
    return {**kind, **told}


def described(model: type[BaseModel], files: Mapping[str, str], required: Collection[str] = ()) -> dict[str, Any]:
    """A route's `openapi_extra`: its form, with the files and what each of them is."""
    schema = model.model_json_schema()
    schema.pop("$defs", None)
    schema["properties"] = {name: _as_text(field) for name, field in schema["properties"].items()}
    for name, what in files.items():
        schema["properties"][name] = {"type": "string", "format": "binary", "description": what}
    schema["required"] = [*schema.get("required", ()), *required]
    return {"requestBody": {"required": True, "content": {MULTIPART: {"schema": schema}}}}
