"""What is told of a job, and when: from a job and what happens to it to calls for the outbox. Pure.

A backend (docs/webhooks.md) hears PATCH …/progress at its milestones, and one of POST …/complete and POST …/failed, ever. Anyone
else hears the whole job, at its start, on its way and at its end, as far as was asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from urllib.parse import urlsplit

from server.errors import Code, JobFailure
from server.events import Progress
from server.job import TERMINAL, Job, JobState
from server.prediction import Done, prediction
from server.webhook import Care, Channel, HookEvent, HookKind, OutboxCall, Webhook

MILESTONES = (0, 25, 50, 75, 90)
"""Per cent at which a backend is told of progress."""

PROGRESS_EVERY = 0.5
"""Seconds between two calls about the progress of one job, at least."""

BACKEND_PATH = "/api/webhooks/inference"
TRUSTED = ""
"""The target of calls to the backend of the settings."""


class BackendCode(StrEnum):
    """Why a generation failed, in the words that backends know."""

    GPU_OOM = "GPU_OOM"
    GENERATION_FAILED = "GENERATION_FAILED"  # with this request: another might go well
    INFERENCE_ERROR = "INFERENCE_ERROR"  # with this server: the same request might go well elsewhere, or later


BACKEND_CODES: dict[Code, BackendCode] = {
    Code.OK: BackendCode.INFERENCE_ERROR,  # no failure has it; the table is total
    Code.UNKNOWN_MESSAGE: BackendCode.GENERATION_FAILED,
    Code.INTERNAL_ERROR: BackendCode.INFERENCE_ERROR,
    Code.INVALID_PARAMETER: BackendCode.GENERATION_FAILED,
    Code.UNAUTHENTICATED: BackendCode.GENERATION_FAILED,
    Code.DUPLICATE_LOGIN: BackendCode.GENERATION_FAILED,
    Code.MALFORMED_MESSAGE: BackendCode.GENERATION_FAILED,
    Code.FRAME_TOO_LARGE: BackendCode.GENERATION_FAILED,
    Code.UNSUPPORTED_VERSION: BackendCode.GENERATION_FAILED,
    Code.HELLO_REQUIRED: BackendCode.GENERATION_FAILED,
    Code.UNEXPECTED_MESSAGE: BackendCode.GENERATION_FAILED,
    Code.HANDSHAKE_TIMEOUT: BackendCode.GENERATION_FAILED,
    Code.FRAME_TIMEOUT: BackendCode.GENERATION_FAILED,
    Code.IDLE_TIMEOUT: BackendCode.GENERATION_FAILED,
    Code.SLOW_READER: BackendCode.GENERATION_FAILED,
    Code.TOO_MANY_CONNECTIONS: BackendCode.INFERENCE_ERROR,
    Code.PERMISSION_DENIED: BackendCode.GENERATION_FAILED,
    Code.JOB_NOT_FOUND: BackendCode.GENERATION_FAILED,
    Code.MODEL_NOT_FOUND: BackendCode.GENERATION_FAILED,
    Code.ADAPTER_NOT_FOUND: BackendCode.GENERATION_FAILED,
    Code.IDEMPOTENCY_CONFLICT: BackendCode.GENERATION_FAILED,
    Code.RESOURCE_EXHAUSTED: BackendCode.INFERENCE_ERROR,
    Code.UNAVAILABLE: BackendCode.INFERENCE_ERROR,
    Code.ADAPTER_INVALID: BackendCode.GENERATION_FAILED,
    Code.LIVE_NOT_FOUND: BackendCode.GENERATION_FAILED,
    Code.MODEL_LOAD_FAILED: BackendCode.INFERENCE_ERROR,
    Code.GPU_OUT_OF_MEMORY: BackendCode.GPU_OOM,
    Code.GENERATION_FAILED: BackendCode.GENERATION_FAILED,
    Code.DEADLINE_EXCEEDED: BackendCode.GENERATION_FAILED,
    Code.STORAGE_FAILED: BackendCode.INFERENCE_ERROR,
    Code.SIGNATURE_FAILED: BackendCode.GENERATION_FAILED,
    Code.MEMORY_LIMIT_EXCEEDED: BackendCode.GENERATION_FAILED,
    Code.LIVE_FAILED: BackendCode.GENERATION_FAILED,
}
"""Total: whatever fails here has a word there."""


@dataclass(frozen=True, slots=True)
class HttpCall:
    """The payload of a webhook's call. A `url` that is a path alone leads to the backend of the settings.

    `owner` is whose secret signs it; "" for calls that are not signed, or were recorded before owners had secrets.
    """

    kind: HookKind
    method: str
    url: str
    body: dict[str, Any]
    owner: str = ""

    def to_json(self) -> str:
        """As the outbox keeps it: ASCII, whatever is in it."""
        told = {"kind": self.kind, "method": self.method, "url": self.url, "body": self.body}
        return json.dumps({**told, "owner": self.owner} if self.owner else told)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The other way."""
        told = json.loads(text)
        return cls(HookKind(told["kind"]), told["method"], told["url"], told["body"], told.get("owner", ""))


@dataclass(frozen=True, slots=True)
class Said:
    """What was told last of a job's progress: the milestone, and when (seconds)."""

    milestone: int = -1
    at: float = -math.inf


def origin(url: str) -> str:
    """Scheme, host and port of a URL ("" of what is none): what is one receiver, for trust and for patience."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError):
        return ""
    return f"{parts.scheme}://{(parts.hostname or '').lower()}:{port}"


def backend_base(url: str) -> str:
    """Where a backend's paths begin: some name one of the three calls, or their common beginning, others the host alone."""
    return url.partition(BACKEND_PATH)[0].rstrip("/").removesuffix("/api")


def calls_of(job: Job, backend_url: str, door: str = "") -> list[OutboxCall]:
    """What is to be told of a job that comes to its state; `backend_url` is the settings' ("": none), `door` our own for HTTP."""
    hook = job.webhook
    if hook is None or job.state not in {JobState.PROCESSING, *TERMINAL}:
        return []
    if hook.kind is HookKind.BACKEND:
        return _backend_calls(job, hook, backend_url) if hook.url or backend_url else []
    event, name, care = (
        (HookEvent.COMPLETED, "end", Care.REPEATED)
        if job.state in TERMINAL
        else (HookEvent.START, "start", Care.FLEETING)
    )
    return (
        [_generic(job, hook, name, prediction(job, base_url=door), care, job.last_event)]
        if event in hook.events
        else []
    )


def progress_call(
    job: Job, event: Progress, said: Said, now: float, backend_url: str, door: str = "", *, text: str = ""
) -> tuple[OutboxCall, Said] | None:
    """What is to be told of a job's progress, and of its `text` so far, and what has been told then; None: nothing now.

    Where one step passes several milestones only the last of them is told: the others are overtaken at once.
    """
    hook = job.webhook
    if hook is None or job.state is not JobState.PROCESSING:
        return None
    if hook.kind is HookKind.BACKEND:
        if not (hook.url or backend_url):
            return None
        milestone = max((mark for mark in MILESTONES if mark <= _per_cent(event.fraction)), default=0)
        if milestone <= max(said.milestone, 0):  # 0 was told when it began
            return None
        call = _backend_progress(job, hook, milestone, event, backend_url)
        return call, Said(milestone, now)
    if HookEvent.PROGRESS not in hook.events or now - said.at < PROGRESS_EVERY:
        return None
    body = prediction(job, Done(event.fraction, event.step, text), base_url=door)
    name = f"progress-{event.number}"
    return _generic(job, hook, name, body, Care.FLEETING, event.number), Said(said.milestone, now)


def refused_calls(generation_id: int, failure: JobFailure, url: str, backend_url: str) -> list[OutboxCall]:
    """What is told of a message that names a generation and cannot become a job; the same message again tells the same call."""
    hook = Webhook(kind=HookKind.BACKEND, url=url, generation_id=generation_id)
    if not (url or backend_url):
        return []
    return [_backend(None, hook, "end", "failed", _failed(hook, failure, 0), Care.ONCE, 0, backend_url)]


def _backend_calls(job: Job, hook: Webhook, backend_url: str) -> list[OutboxCall]:
    if job.state is JobState.PROCESSING:
        return [_backend_progress(job, hook, MILESTONES[0], None, backend_url)]
    if job.state is JobState.SUCCEEDED:
        body = _complete(job, hook)
        return [_backend(job.id, hook, "end", "complete", body, Care.REPEATED, job.last_event, backend_url)]
    failure = job.failure or JobFailure(Code.GENERATION_FAILED, "the job was canceled")
    body = _failed(hook, failure, job.retries)
    return [_backend(job.id, hook, "end", "failed", body, Care.ONCE, job.last_event, backend_url)]


def _backend_progress(job: Job, hook: Webhook, milestone: int, event: Progress | None, backend_url: str) -> OutboxCall:
    progress = {
        "current_step": event.step if event else 0,
        "total_steps": event.total_steps if event else job.request.steps,
        "progress_percent": _per_cent(event.fraction) if event else 0,
        "estimated_seconds": math.ceil(event.eta_seconds) if event else 0,
    }
    body = {"generation_id": hook.generation_id, "progress": progress}
    number = event.number if event else job.last_event
    return _backend(job.id, hook, f"progress-{milestone}", "progress", body, Care.FLEETING, number, backend_url)


def _complete(job: Job, hook: Webhook) -> dict[str, Any]:
    first = job.artifacts[0]
    metadata: dict[str, Any] = {
        "seed": first.seed,
        "steps": job.pictures_asked.num_inference_steps,
        "guidance_scale": job.pictures_asked.guidance_scale,
    }
    if hook.prompt_tags:
        metadata["prompt_tags"] = list(hook.prompt_tags)
    return {"generation_id": hook.generation_id, "result_url": first.url or first.key, "metadata": metadata}


def _failed(hook: Webhook, failure: JobFailure, retries: int) -> dict[str, Any]:
    return {
        "generation_id": hook.generation_id,
        "error_message": failure.message,
        "error_code": BACKEND_CODES[failure.code].value,
        "retry_count": retries,
    }


def _backend(
    job_id: str | None,
    hook: Webhook,
    name: str,
    verb: str,
    body: dict[str, Any],
    care: Care,
    position: int,
    backend_url: str,
) -> OutboxCall:
    base = backend_base(hook.url)
    trusted = not base or origin(base) == origin(backend_url) != ""
    method = "PATCH" if verb == "progress" else "POST"
    return OutboxCall(
        id=_generation_id("" if trusted else base, hook.generation_id, name),
        job_id=job_id,
        name=name,
        channel=Channel.WEBHOOK,
        payload=HttpCall(HookKind.BACKEND, method, f"{base}{BACKEND_PATH}/{verb}", body).to_json(),
        position=position,
        target=TRUSTED if trusted else origin(base),
        care=care,
    )


def _generation_id(base: str, generation_id: int | None, name: str) -> str:
    """A call's id by the generation it is about: however many jobs a generation has had, it is told once.

    A backend of another address has generations of its own.
    """
    whose = f"{hashlib.sha256(origin(base).encode()).hexdigest()[:16]}-" if base else ""
    return f"generation-{whose}{generation_id}-{name}"


def _generic(job: Job, hook: Webhook, name: str, body: dict[str, Any], care: Care, position: int) -> OutboxCall:
    return OutboxCall(
        id=f"msg_{job.id}_{name}",
        job_id=job.id,
        name=name,
        channel=Channel.WEBHOOK,
        payload=HttpCall(HookKind.GENERIC, "POST", hook.url, body, job.owner).to_json(),
        position=position,
        target=origin(hook.url),
        care=care,
    )


def _per_cent(fraction: float) -> int:
    return math.floor(fraction * 100 + 1e-9)  # 0.29 * 100 is a little less than 29
