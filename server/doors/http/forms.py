"""Forms with files (multipart/form-data): texts checked by a model as JSON would be, files as bytes.

A form's values are texts, so that numbers and truths are read from them; a field that is not known, or comes twice, is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from server.errors import Refusal

MOST_FIELDS = 64  # no form here has half of them
MULTIPART = "multipart/form-data"

Model = TypeVar("Model", bound=BaseModel)


async def read_form(
    request: Request, model: type[Model], files: Collection[str]
) -> tuple[Model, Mapping[str, list[bytes]]]:
    """The texts as a model, and the contents of each of `files` that came. Raises Refusal, RequestValidationError."""
    given = request.headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() != MULTIPART:
        raise Refusal.invalid("Content-Type", MULTIPART, given)
    texts: dict[str, str] = {}
    contents: dict[str, list[bytes]] = {}
    async with request.form(max_files=MOST_FIELDS, max_fields=MOST_FIELDS) as form:
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) != (name in files):
                raise Refusal.invalid(name[:100], "a file" if name in files else "a text", "the other")
            if isinstance(value, UploadFile):
                contents.setdefault(name, []).append(await value.read())
            elif name in texts:
                raise Refusal.invalid(name[:100], "given once", value)
            else:
                texts[name] = value
    return checked(model, texts), contents


def checked(model: type[Model], given: Mapping[str, Any]) -> Model:
    """Texts as a model. Raises RequestValidationError."""
    try:
        return model.model_validate(given, strict=False)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors(include_url=False)]
        raise RequestValidationError(problems) from None


def described(model: type[BaseModel], files: Mapping[str, str], required: Collection[str] = ()) -> dict[str, Any]:
    """A route's `openapi_extra`: its form, with the files and what each of them is."""
    schema = model.model_json_schema()
    for name, what in files.items():
        schema["properties"][name] = {"type": "string", "format": "binary", "description": what}
    schema["required"] = [*schema.get("required", ()), *required]
    return {"requestBody": {"required": True, "content": {MULTIPART: {"schema": schema}}}}
