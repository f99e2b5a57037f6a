"""A job as rows, and back.

What was asked is JSON: a field that a later version adds has its default in older rows. A request for anything but pictures says
its `kind`; one that says none, as all older ones, is for pictures. Bytes (pictures that came with the
request) are rows of `job_inputs`, and a note of their name in the JSON; when the job has ended they are gone, and the object
that held them is None. The files of a custom model's request are noted by name beside it, since what is in it is the caller's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import from_json, to_json

from ai.types import CustomRequest, GenerationRequest, Json, Request, TextRequest
from server.errors import Code, JobFailure
from server.events import Artifact
from server.job import TERMINAL, Job, JobState
from server.metering.cost import cost_of, pictures_of
from server.webhook import CallState, Care, Channel, OutboxCall, Webhook
from watermark import Signature

_NOTE = "job_inputs"  # a JSON object of this one key stands for bytes; no dataclass of ours has a field so named
_GONE = object()
_KIND = "kind"
_UNRECORDED = {"saved", "adapter_files"}
REQUESTS_KEPT = 1024  # a few hundred bytes each; those of the jobs under way
_CALL = tuple(field.name for field in fields(OutboxCall))
_ARTIFACT = tuple(field.name for field in fields(Artifact) if field.name != "access")
_REQUEST = TypeAdapter(GenerationRequest)
_KINDS: dict[str, TypeAdapter[Any]] = {"text": TypeAdapter(TextRequest), "custom": TypeAdapter(CustomRequest)}
"""Requests that paint nothing, by their kind as it is recorded. What is in them is the caller's own JSON, and holds no bytes."""
_KIND_OF: dict[type, str] = {TextRequest: "text", CustomRequest: "custom"}
_FILE = "request.files."  # before the name of a custom model's input
_SIGNATURE = TypeAdapter(Signature)
_WEBHOOK = TypeAdapter(Webhook)


@dataclass(frozen=True, slots=True)
class JobRows:
    """A new job's row of `jobs`, and its rows of `job_inputs`."""

    job: dict[str, Any]
    inputs: list[dict[str, Any]]


def rows_of(job: Job) -> JobRows:
    """A job that was not kept before."""
    inputs: dict[str, bytes] = {}
    request = _request_text(job.request, inputs)
    signature = None
    if job.signature is not None:
        signature = _text(_without_bytes(_SIGNATURE.dump_python(job.signature), "signature", inputs))
    row = {
        "id": job.id,
        "owner": job.owner,
        "idempotency_key": key_text(job.idempotency_key) if job.idempotency_key else None,
        "body_hash": job.body_hash,
        "request": request,
        "signature": signature,
        "deadline_seconds": job.deadline_seconds,
        "created_at": job.created_at,
        "state": job.state.value,
        "warnings": "[]",
        "last_event": job.last_event,
        "attempts": job.attempts,
        "retries": job.retries,
        "fence": job.fence,
        "webhook": None if job.webhook is None else _text(_WEBHOOK.dump_python(job.webhook, mode="json")),
        "object_key": job.object_key,
        "pictures": pictures_of(job.request),
        "cost": cost_of(job.request),
    }
    return JobRows(row, [{"job_id": job.id, "name": name, "data": data} for name, data in inputs.items()])


def _request_text(request: Request, inputs: dict[str, bytes]) -> str:
    if not isinstance(request, GenerationRequest):
        kind = _KIND_OF[type(request)]
        told = {_KIND: kind, **_KINDS[kind].dump_python(request, mode="json", exclude={"files"})}
        if isinstance(request, CustomRequest) and request.files:
            inputs.update({_FILE + name: data for name, data in request.files.items()})
            told[_NOTE] = list(request.files)
        return _text(told)
    if request.init_image is None:
        return _REQUEST.dump_json(request, exclude=_UNRECORDED, ensure_ascii=True).decode()
    return _text(_without_bytes(_REQUEST.dump_python(request, exclude=_UNRECORDED), "request", inputs))


def job_of(row: Any, inputs: Mapping[str, bytes], artifacts: Sequence[Artifact]) -> Job:
    """The job of a row of `jobs`."""
    return Job(
        id=row.id,
        owner=row.owner,
        idempotency_key=from_json(row.idempotency_key) if row.idempotency_key else "",
        body_hash=row.body_hash,
        request=_request(row.request, inputs),
        signature=_SIGNATURE.validate_python(_with_bytes(from_json(row.signature), inputs)) if row.signature else None,
        deadline_seconds=row.deadline_seconds,
        created_at=row.created_at,
        state=JobState(row.state),
        started_at=row.started_at,
        completed_at=row.completed_at,
        artifacts=tuple(artifacts),
        warnings=tuple(from_json(row.warnings)),
        failure=_failure(row.failure),
        last_event=row.last_event,
        attempts=row.attempts,
        retries=row.retries,
        fence=row.fence,
        webhook=_WEBHOOK.validate_json(row.webhook) if row.webhook else None,
        object_key=row.object_key,
        output=_json(row.output),
        figures=_json(row.figures) or {},
    )


def _request(text: str, inputs: Mapping[str, bytes]) -> Request:
    if _NOTE not in text or _KIND in (found := from_json(text)):
        request = _known_request(text)
        files = {name.removeprefix(_FILE): data for name, data in inputs.items() if name.startswith(_FILE)}
        return replace(request, files=files) if files and isinstance(request, CustomRequest) else request
    picture: GenerationRequest = _REQUEST.validate_python(_with_bytes(found, inputs))
    return picture


@lru_cache(REQUESTS_KEPT)
def _known_request(text: str) -> Request:
    """A job is read at each of its transitions, and what it asked for never changes."""
    if not text.startswith(f'{{"{_KIND}":'):  # as it is written; no field of a request for pictures is so named
        picture: GenerationRequest = _REQUEST.validate_json(text)
        return picture
    found = from_json(text)
    found.pop(_NOTE, None)
    request: Request = _KINDS[found.pop(_KIND)].validate_python(found)
    return request


def _json(text: str | None) -> Json:
    return None if text is None else from_json(text)


def has_inputs(row: Any) -> bool:
    """Whether the job's rows of `job_inputs` have to be read too."""
    return JobState(row.state) not in TERMINAL and (_NOTE in row.request or _NOTE in (row.signature or ""))


def artifact_row(job_id: str, artifact: Artifact) -> dict[str, Any]:
    """One of `artifacts`."""
    return {"job_id": job_id, **{name: getattr(artifact, name) for name in _ARTIFACT}}


def artifact_of(row: Any) -> Artifact:
    """The other way."""
    return Artifact(**{name: value for name, value in row._mapping.items() if name != "job_id"})


def call_row(call: OutboxCall, *, at: float) -> dict[str, Any]:
    """One of `outbox`, to be made at once."""
    return {
        **{name: getattr(call, name) for name in _CALL},
        "channel": call.channel.value,
        "care": call.care.value,
        "state": CallState.WAITING.value,
        "created_at": at,
        "next_at": at,
        "attempts": 0,
        "last_error": "",
    }


def call_of(row: Any) -> OutboxCall:
    """The other way."""
    return OutboxCall(
        id=row.id,
        job_id=row.job_id,
        name=row.name,
        channel=Channel(row.channel),
        payload=row.payload,
        position=row.position,
        target=row.target,
        care=Care(row.care),
    )


def move_values(job: Job) -> dict[str, Any]:
    """What the statement of a transition is given."""
    failure = None
    if job.failure is not None:
        failure = _text({**vars(job.failure), "code": job.failure.code.value})
    return {
        "of_job": job.id,
        "held": job.fence,
        "to_event": job.last_event,
        "to_attempts": job.attempts,
        "to_retries": job.retries,
        "to_started": job.started_at,
        "to_completed": job.completed_at,
        "to_warnings": _text(list(job.warnings)) if job.warnings else "[]",
        "to_failure": failure,
        "to_output": None if job.output is None else _text(job.output),
        "to_figures": _text(dict(job.figures)) if job.figures else None,
    }


def key_text(idempotency_key: str) -> str:
    """A key as its column has it."""
    return _text(idempotency_key)


def _failure(text: str | None) -> JobFailure | None:
    if text is None:
        return None
    told = from_json(text)
    return JobFailure(Code(told.pop("code")), told.pop("message"), **told)


def _without_bytes(value: Any, path: str, found: dict[str, bytes]) -> Any:
    if isinstance(value, bytes):
        found[path] = value
        return {_NOTE: path}
    if isinstance(value, dict):
        return {name: _without_bytes(inner, f"{path}.{name}", found) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_bytes(inner, f"{path}.{index}", found) for index, inner in enumerate(value)]
    return value


def _with_bytes(value: Any, inputs: Mapping[str, bytes]) -> Any:
    if isinstance(value, dict):
        if value.keys() == {_NOTE}:
            return inputs.get(value[_NOTE], _GONE)
        whole = {name: _with_bytes(inner, inputs) for name, inner in value.items()}
        return None if _GONE in whole.values() else whole
    if isinstance(value, list):
        return [_with_bytes(inner, inputs) for inner in value]
    return value


def _text(value: Any) -> str:
    """JSON in ASCII: PostgreSQL takes no NUL, and no other encoding than its own."""
    return to_json(value, ensure_ascii=True).decode()
