"""What jobs say, as messages of the topic exchange `atelier.events`: JSON under the routing key job.{id}.{event}.

    job.{id}.progress   {job_id, event, number, idempotency_key, phase, step, total_steps, fraction, eta_seconds}
    job.{id}.output     {job_id, event, number, idempotency_key, text}, all of it so far
    job.{id}.succeeded  {job_id, event, number, idempotency_key, artifacts[], warnings[], output, figures{}, …}
    job.{id}.failed     {job_id, event, number, idempotency_key, code, message, field, limit}
    job.{id}.canceled   {job_id, event, number, idempotency_key}
    message.refused     {event, message_id, idempotency_key, code, message, field, limit}

By its key whoever published a message knows its job. Numbers rise with each event of a job. The end comes once from each node
that tells it; what counts is the job's record.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from server.errors import AtelierError, Refusal
from server.events import Artifact, Canceled, Event, Failed, Output, Phase, Progress, Succeeded

_ARTIFACT = tuple(entry.name for entry in fields(Artifact))
_ARTIFACT_VALUES = attrgetter(*_ARTIFACT)


def _progress(event: Progress) -> dict[str, Any]:
    return {
        "phase": event.phase.value,
        "step": event.step,
        "total_steps": event.total_steps,
        "fraction": event.fraction,
        "eta_seconds": event.eta_seconds,
    }


def _output(event: Output) -> dict[str, Any]:
    return {"text": event.text}


def _succeeded(event: Succeeded) -> dict[str, Any]:
    return {
        "artifacts": [dict(zip(_ARTIFACT, _ARTIFACT_VALUES(artifact), strict=True)) for artifact in event.artifacts],
        "warnings": list(event.warnings),
        "queued_seconds": event.queued_seconds,
        "processing_seconds": event.processing_seconds,
        "output": event.output,
        "figures": dict(event.figures),
    }


def _failed(event: Failed) -> dict[str, Any]:
    return _reason(event.failure)


def _reason(error: AtelierError) -> dict[str, Any]:
    return {"code": error.code.name, "message": error.message, "field": error.field, "limit": error.limit}


def _canceled(event: Canceled) -> dict[str, Any]:
    return {}


TOLD: dict[type, tuple[str, Callable[[Any], dict[str, Any]]]] = {
    Progress: ("progress", _progress),
    Output: ("output", _output),
    Succeeded: ("succeeded", _succeeded),
    Failed: ("failed", _failed),
    Canceled: ("canceled", _canceled),
}
"""The name and the body of each event that is told; an Output with all that came before it (`Teller`).
Accepted is told to whoever submits, a Preview to whoever asked for it."""


REFUSED = "message.refused"


def message_of(event: Event, key: str) -> tuple[str, bytes]:
    """Routing key and body; `key` is the job's idempotency key."""
    name, body = TOLD[type(event)]
    told = {"job_id": event.job_id, "event": name, "number": event.number, "idempotency_key": key, **body(event)}
    return f"job.{event.job_id}.{name}", json.dumps(told).encode()


def refusal_of(refusal: Refusal, key: str, message_id: str) -> bytes:
    """What is told of a message that went to the dead letters; `key` as far as it could be read."""
    told = {"event": "refused", "message_id": message_id, "idempotency_key": key, **_reason(refusal)}
    return json.dumps(told).encode()


def keys_of(job_id: str) -> str:
    """What matches everything that is told of a job."""
    return f"job.{job_id}.*"


def heard(body: bytes) -> tuple[str, Progress | Output | None]:
    """Of which job a message is, and its progress or text if that is what it tells. Raises ValueError for no message of ours."""
    try:
        told = json.loads(body)
        job_id = told["job_id"]
        if not isinstance(job_id, str):
            raise TypeError
        if told["event"] == "output":
            return job_id, Output(number=int(told["number"]), job_id=job_id, offset=0, text=str(told["text"]))
        if told["event"] != "progress":
            return job_id, None
        return job_id, Progress(
            number=int(told["number"]),
            job_id=job_id,
            phase=Phase(told["phase"]),
            step=int(told["step"]),
            total_steps=int(told["total_steps"]),
            fraction=float(told["fraction"]),
            eta_seconds=float(told["eta_seconds"]),
        )
    except (KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"not an event: {error!r}") from None
