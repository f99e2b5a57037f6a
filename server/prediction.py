"""A job as JSON, in the words that web developers know from Replicate's predictions: for webhooks and for HTTP. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from ai.types import GenerationRequest, Json
from server.adapter_names import shown_name
from server.job import Job, JobState
from server.listing import is_overdue
from server.model_names import full_name, model_id, version_of
from server.object_keys import picture_path

STATUSES: dict[JobState, str] = {
    JobState.QUEUED: "starting",
    JobState.STARTING: "starting",
    JobState.RETRYING: "starting",
    JobState.PROCESSING: "processing",
    JobState.SUCCEEDED: "succeeded",
    JobState.FAILED: "failed",
    JobState.CANCELED: "canceled",
}


BAR = 10  # characters of the bar in a line of progress


@dataclass(frozen=True, slots=True)
class Done:
    """How far a job is: `fraction` (0 to 1) over all its images, `step` of its slowest one; `text` is what is written so far."""

    fraction: float = 0.0
    step: int = 0
    text: str = ""


def prediction(job: Job, done: Done | None = None, *, base_url: str = "") -> dict[str, Any]:
    """The whole job. `base_url` is where this server answers HTTP; without one there are no `urls`.

    Times are ISO 8601 in UTC, durations seconds; `output` has an address for each picture: the storage's, else this server's, and
    without either its storage key; of another kind of model it is what that gives: a text, also on its way. Its last line of
    `logs` says how far it is, as Replicate's client reads it.
    """
    request = job.request
    steps = request.steps
    if job.state is JobState.SUCCEEDED:
        done = Done(1.0, int(job.figures.get("output_token_count", steps)))
    done = done or Done()
    failure = job.failure if job.state is JobState.FAILED else None  # one that is retrying has its last failure, too
    return {
        "id": job.id,
        "status": status_of(job),
        "model": full_name(request.model),
        "model_id": model_id(request.model),
        "version": version_of(request.model),
        "input": _input(job),
        "output": _output(job, done, base_url),
        "error": failure.message if failure else None,
        "error_code": failure.code.name if failure else None,
        "logs": "\n".join([*job.warnings, *([progress_line(done, steps)] if done.step else [])]),
        "created_at": _time(job.created_at),
        "started_at": _time(job.started_at),
        "completed_at": _time(job.completed_at),
        "webhook": job.webhook.url if job.webhook else None,
        "progress": round(done.fraction, 4),
        "progress_step": done.step,
        "progress_total": steps,
        "metrics": _metrics(job),
        "urls": _urls(job, base_url),
    }


def status_of(job: Job) -> str:
    """One of the five. A job that its deadline ended was to be canceled then."""
    return STATUSES[JobState.CANCELED] if is_overdue(job) else STATUSES[job.state]


def progress_line(done: Done, steps: int) -> str:
    """How far a job is, as tqdm writes it."""
    full = round(BAR * done.fraction)
    return f"{int(done.fraction * 100 + 1e-9):3d}%|{'█' * full}{' ' * (BAR - full)}| {done.step}/{steps}"


def _output(job: Job, done: Done, base_url: str) -> Json:
    if not isinstance(job.request, GenerationRequest) and not job.artifacts:
        return job.output if job.state is JobState.SUCCEEDED else done.text or None
    door = base_url.rstrip("/")
    return [
        one.url or (f"{door}{picture_path(job.id, one.image_index)}{one.access}" if door else one.key)
        for one in job.artifacts
    ] or None


def _input(job: Job) -> dict[str, Any]:
    request = job.request
    if not isinstance(request, GenerationRequest):
        return dict(request.input)
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "seed": request.seed,
        "num_outputs": request.num_images,
        "scheduler": request.solver,
        "adapters": [{"name": shown_name(use.name), "scale": use.scale} for use in request.adapters],
        **({"strength": request.strength} if request.strength else {}),
        **({"refiner_strength": request.refiner_strength} if request.refiner_strength else {}),
    }


def _metrics(job: Job) -> dict[str, float]:
    """Of an ended job: how long it was worked at, and how long it took in all; of a text, its tokens."""
    if job.completed_at is None:
        return {}
    total = max(0.0, job.completed_at - job.created_at)
    painted = 0.0 if job.started_at is None else max(0.0, job.completed_at - job.started_at)
    return {"predict_time": round(painted, 3), "total_time": round(total, 3), **job.figures}


def _urls(job: Job, base_url: str) -> dict[str, str]:
    if not base_url:
        return {}
    own = f"{base_url.rstrip('/')}/v1/predictions/{job.id}"
    return {"get": own, "cancel": f"{own}/cancel", "stream": f"{own}/stream", "web": own}


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
