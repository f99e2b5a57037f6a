"""What is refused or fails, as HTTP: one table of statuses, one body.

    {"error": {"code": "INVALID_PARAMETER", "message": "…", "details": {"field": "width", "limit": "64 to 1280"},
               "timestamp": "…Z", "type": "invalid_request_error", "param": "width"},
     "detail": "…"}

`code` is the name that TCP clients see too. `type` and `param` are what OpenAI's clients read beside it. `detail` is what clients
of other FastAPI servers read: a text, or, with status 422, a list of {loc, msg, type}.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from server.clock import Clock
from server.errors import AtelierError, Code, Refusal

MAX_PROBLEMS = 20  # told of one request: more help nobody, and strangers' keys make megabytes of them
MAX_PROBLEM_KEY = 200  # characters of a field's name, which may be the client's own

REFUSED = "refused"  # in a request's state: the code of its refusal
CLIENT_GONE = 499  # nginx's number for an answer that nobody hears

STATUSES: Mapping[Code, int] = {
    Code.OK: 200,
    Code.UNKNOWN_MESSAGE: 404,
    Code.INTERNAL_ERROR: 500,
    Code.INVALID_PARAMETER: 422,
    Code.UNAUTHENTICATED: 401,
    Code.DUPLICATE_LOGIN: 409,
    Code.MALFORMED_MESSAGE: 400,
    Code.FRAME_TOO_LARGE: 413,
    Code.UNSUPPORTED_VERSION: 400,
    Code.HELLO_REQUIRED: 401,
    Code.UNEXPECTED_MESSAGE: 400,
    Code.HANDSHAKE_TIMEOUT: 408,
    Code.FRAME_TIMEOUT: 408,
    Code.IDLE_TIMEOUT: 408,
    Code.SLOW_READER: 408,
    Code.TOO_MANY_CONNECTIONS: 503,
    Code.PERMISSION_DENIED: 403,
    Code.JOB_NOT_FOUND: 404,
    Code.MODEL_NOT_FOUND: 404,
    Code.ADAPTER_NOT_FOUND: 404,
    Code.IDEMPOTENCY_CONFLICT: 409,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.UNAVAILABLE: 503,
    Code.ADAPTER_INVALID: 422,
    Code.LIVE_NOT_FOUND: 404,
    # Of jobs that were accepted: told as a status only to who waits for the picture in one request.
    Code.MODEL_LOAD_FAILED: 503,
    Code.GPU_OUT_OF_MEMORY: 503,
    Code.GENERATION_FAILED: 500,
    Code.DEADLINE_EXCEEDED: 504,
    Code.STORAGE_FAILED: 503,
    Code.SIGNATURE_FAILED: 500,
    Code.MEMORY_LIMIT_EXCEEDED: 500,
    Code.LIVE_FAILED: 500,
}

_CODES: Mapping[int, Code] = {  # of what the framework itself refuses
    400: Code.MALFORMED_MESSAGE,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.UNKNOWN_MESSAGE,
    405: Code.UNKNOWN_MESSAGE,
    413: Code.FRAME_TOO_LARGE,
    429: Code.RESOURCE_EXHAUSTED,
    503: Code.UNAVAILABLE,
}


class ErrorDetails(BaseModel):
    """Which field, and what would have been taken."""

    field: str | None = None
    limit: str | None = None
    retry_after_seconds: float | None = None


TYPES: Mapping[int, str] = {  # of statuses, in OpenAI's words; every other refusal is an invalid request
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


def type_of(status: int) -> str:
    """What OpenAI's clients call an error of this status."""
    return TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")


class ErrorBody(BaseModel):
    """What went wrong: `code` for programs, `message` for people."""

    code: str = Field(json_schema_extra={"enum": [code.name for code in Code if code is not Code.OK]})
    message: str
    details: ErrorDetails
    timestamp: str
    type: str = Field(description="The kind of error, in the words of OpenAI's API.")
    param: str | None = Field(description="The field, as in `details`.")


class FieldProblem(BaseModel):
    """One field, as FastAPI tells it."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorResponse(BaseModel):
    """Every refusal and failure."""

    error: ErrorBody
    detail: str | list[FieldProblem]


_MEANINGS = {
    400: "The request cannot be read.",
    401: "No token, or one that is not known.",
    403: "Not from there, or not this one's.",
    404: "There is none, or none of yours.",
    405: "The path does not know the method.",
    408: "The request did not come in time.",
    409: "The idempotency key was used for another request.",
    413: "The body is too large.",
    422: "A field that does not fit; it is named, with what would.",
    429: "Too many jobs are waiting, or a limit of yours is reached; `Retry-After` says when to come again.",
    500: "The server erred.",
    503: "Not now; `Retry-After` says when to come again.",
    504: "The job's deadline passed.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """For a route's `responses`: what it may refuse with."""
    return {status: {"model": ErrorResponse, "description": _MEANINGS[status]} for status in statuses}


def linked(**operations: str) -> dict[str, Any]:
    """For a response in a route's `responses`: what can be asked of what it created, by that operation's parameter for the id."""
    return {
        "links": {
            operation: {"operationId": operation, "parameters": {parameter: "$response.body#/id"}}
            for operation, parameter in operations.items()
        }
    }


class Refused(HTTPException):
    """A Refusal raised where the framework reads the body: it lets its own kind of exception through."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(STATUSES[refusal.code], refusal.message)
        self.refusal = refusal


def time_text(seconds: float) -> str:
    """ISO 8601 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def error_of(error: AtelierError, at: float, status: int | None = None) -> dict[str, Any]:
    """What the one body says of an error; `at` in seconds since 1970."""
    details: dict[str, Any] = {}
    if error.field:
        details["field"] = error.field
    if error.limit:
        details["limit"] = error.limit
    if error.retry_after_seconds:
        details["retry_after_seconds"] = error.retry_after_seconds
    return {
        "code": error.code.name,
        "message": error.message,
        "details": details,
        "timestamp": time_text(at),
        "type": type_of(status or STATUSES[error.code]),
        "param": error.field or None,
    }


def body_of(error: AtelierError, at: float, detail: Any = None, status: int | None = None) -> dict[str, Any]:
    """The one body; `at` in seconds since 1970."""
    if detail is None:
        detail = error.message
        if STATUSES[error.code] == 422:
            detail = [{"loc": ["body", error.field], "msg": error.message, "type": "value_error"}]
    return {"error": error_of(error, at, status), "detail": detail}


class Refusing(JSONResponse):
    """An error's response, which leaves word of its code for whoever measures (server.doors.http.measured)."""

    def __init__(self, code: Code, body: Mapping[str, Any], status: int, headers: Mapping[str, str]) -> None:
        super().__init__(body, status, headers)
        self._code = code

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As any response."""
        scope.setdefault("state", {})[REFUSED] = self._code.name
        await super().__call__(scope, receive, send)


def answer(
    error: AtelierError,
    at: float,
    *,
    status: int | None = None,
    detail: Any = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An error as a response."""
    status = status or STATUSES[error.code]
    given = dict(headers or {})
    if error.retry_after_seconds:
        given["Retry-After"] = str(math.ceil(error.retry_after_seconds))
    if status == 401:
        given["WWW-Authenticate"] = "Bearer"
    return Refusing(error.code, body_of(error, at, detail, status), status, given)


def internal_error() -> Refusal:
    """For what must not happen; the log has the rest."""
    return Refusal(Code.INTERNAL_ERROR, "the server erred; its log says how")


def handlers(clock: Clock) -> dict[Any, Callable[[Request, Any], Any]]:
    """FastAPI's exception handlers."""

    async def refused(request: Request, error: AtelierError) -> Response:
        return answer(error, clock.seconds())

    async def by_the_framework(request: Request, error: HTTPException) -> Response:
        if isinstance(error, Refused):
            return answer(error.refusal, clock.seconds())
        code = _CODES.get(error.status_code, Code.INVALID_PARAMETER if error.status_code < 500 else Code.INTERNAL_ERROR)
        text = _framework_text(request, error)
        headers = {"Allow": _allowed(request)} if error.status_code == 405 else error.headers
        return answer(Refusal(code, text), clock.seconds(), status=error.status_code, headers=headers, detail=text)

    async def invalid(request: Request, error: RequestValidationError) -> Response:
        refusal, problems = explained(error.errors())
        return answer(refusal, clock.seconds(), detail=problems)

    return {AtelierError: refused, HTTPException: by_the_framework, RequestValidationError: invalid}


def _allowed(request: Request) -> str:
    """Every method of a path: the framework names those of its first route alone."""
    path, methods = None, set[str]()
    for route in request.app.state.routes:
        if isinstance(route, Route):
            if path is None and route.matches(request.scope)[0] is not Match.NONE:
                path = route.path
            methods |= (route.methods or set()) if route.path == path else set()
    return ", ".join(sorted(methods))


def _framework_text(request: Request, error: HTTPException) -> str:
    path = request.url.path[:200]
    if error.status_code == 404:
        return f"there is nothing at {path}"
    if error.status_code == 405:
        return f"{path} does not know the method {request.scope.get('method', '')}"
    return str(error.detail)


TOO_MANY_FIELDS = "too_many_fields"

_LIMITS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda given: "given",
    "extra_forbidden": lambda given: "left out: there is no such field",
    "greater_than": lambda given: f"more than {given['gt']}",
    "greater_than_equal": lambda given: f"at least {given['ge']}",
    "less_than": lambda given: f"less than {given['lt']}",
    "less_than_equal": lambda given: f"at most {given['le']}",
    "string_too_short": lambda given: f"at least {given['min_length']} characters",
    "string_too_long": lambda given: f"at most {given['max_length']} characters",
    "too_long": lambda given: f"at most {given['max_length']}",
    "too_short": lambda given: f"at least {given['min_length']}",
    "literal_error": lambda given: f"one of {given['expected']}",
    "enum": lambda given: f"one of {given['expected']}",
    "string_type": lambda given: "a text",
    "string_unicode": lambda given: "a text of valid characters",
    "int_type": lambda given: "a whole number",
    "int_parsing": lambda given: "a whole number",
    "int_from_float": lambda given: "a whole number",
    "float_type": lambda given: "a number",
    "float_parsing": lambda given: "a number",
    "finite_number": lambda given: "a finite number",
    "bool_type": lambda given: "true or false",
    "bool_parsing": lambda given: "true or false",
    "list_type": lambda given: "a list",
    "dict_type": lambda given: "an object",
    "model_type": lambda given: "an object",
    "model_attributes_type": lambda given: "an object, sent as application/json",
    TOO_MANY_FIELDS: lambda given: f"an object of at most {given['max_fields']} fields",
    "json_invalid": lambda given: "JSON",
}


def explained(problems: Sequence[Any]) -> tuple[Refusal, list[dict[str, Any]]]:
    """What pydantic found, as the refusal of its first field, and as FastAPI's list, MAX_PROBLEMS of it, without the values: they
    may be long, or secret."""
    told = [
        {"loc": _short(problem["loc"]), "msg": str(problem["msg"]), "type": str(problem["type"])}
        for problem in problems[:MAX_PROBLEMS]
    ]
    first = problems[0]
    if first["type"] == "json_invalid" and not isinstance(first["loc"][-1], str):  # else it is one field's
        return Refusal(Code.MALFORMED_MESSAGE, "the body is not JSON", field="body", limit="JSON"), told
    field = _field(first["loc"])
    known = _LIMITS.get(first["type"])
    limit = known(first.get("ctx") or {}) if known else str(first["msg"])
    return Refusal(Code.INVALID_PARAMETER, f"{field} must be {limit}", field=field, limit=limit), told


def _short(loc: Sequence[Any]) -> list[Any]:
    return [part[:MAX_PROBLEM_KEY] if isinstance(part, str) else part for part in loc]


def _field(loc: Sequence[Any]) -> str:
    """("body", "adapters", 0, "scale") as adapters[0].scale."""
    name = ""
    for part in loc[1:] if len(loc) > 1 else loc:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name[:200]
