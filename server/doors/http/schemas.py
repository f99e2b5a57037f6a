"""The own routes' JSON: what a Submit is as a request, and a job as an answer. Field names are those of proto/atelier.proto, and
those of the JSON that the RabbitMQ door takes.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ai.types import GenerationRequest, Request
from server.adapter_names import shown_name
from server.commands import (
    DEFAULT_STRENGTH,
    MAX_ADAPTERS,
    MAX_GUIDANCE_SCALE,
    MAX_IDEMPOTENCY_KEY,
    MAX_IMAGES,
    MAX_PREVIEW_EVERY,
    MAX_PRIORITY,
    MAX_SEED,
    AdapterUse,
    Submit,
)
from server.doors.http.errors import TOO_MANY_FIELDS, ErrorDetails, time_text
from server.doors.http.pictures import picture_url
from server.errors import Code, JobFailure, Refusal
from server.events import Artifact
from server.job import JobState
from server.model_names import shown
from server.replies import JobView
from server.webhook import ALL_EVENTS, HookEvent, HookKind, Webhook
from watermark import ImageMark, Position, Signature, SignatureError, Size, TextMark
from watermark.signature import DEFAULT_OPACITY

MAX_URL = 2000  # characters
MAX_TEXT = 100_000  # characters; the server's own limit is a setting, and is told when it is passed
MAX_FIELDS = 64  # of one object; the largest request here has some twenty

# Requests


class StrictRequest(BaseModel):
    """An object of a request: every field is known and of its type. One with far more fields than there are is refused whole,
    since every unknown one is a problem that is told."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _not_too_many(cls, given: Any) -> Any:
        if isinstance(given, dict) and len(given) > MAX_FIELDS:
            text = "Object should have at most {max_fields} fields"
            raise PydanticCustomError(TOO_MANY_FIELDS, text, {"max_fields": MAX_FIELDS})
        return given


class AdapterChoice(StrictRequest):
    """A style on the picture."""

    name: str = Field(min_length=1, max_length=MAX_URL)
    scale: float = Field(1.0, description="0: as if it were not there; 1: as it was trained.")


class SignatureRequest(StrictRequest):
    """A text or an image in a corner of the picture."""

    text: str | None = Field(None, max_length=MAX_TEXT)
    image: str | None = Field(None, description="A picture file, in base64.", max_length=1 << 27)
    position: str = Field(Position.BOTTOM_RIGHT.value, json_schema_extra={"enum": [one.value for one in Position]})
    size: str = Field(Size.MEDIUM.value, json_schema_extra={"enum": [one.value for one in Size]})
    opacity: float = Field(DEFAULT_OPACITY, ge=0, le=1)
    artist: str = Field("", max_length=MAX_TEXT)


class WebhookRequest(StrictRequest):
    """An address that is told what becomes of the job (docs/webhooks.md)."""

    url: str = Field(max_length=MAX_URL, pattern=r"^(?i:https?)://[^\x00-\x20]+$")
    events: list[Literal["start", "progress", "completed"]] = Field([], max_length=10, description="None: all of them.")


class JobRequest(StrictRequest):
    """What may be asked for. Left out, or null: the model's default."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"prompt": "a big green tree on a pink background", "seed": 7, "num_inference_steps": 8},
            ]
        },
    )
    prompt: str = Field(min_length=1, max_length=MAX_TEXT, examples=["a big green tree on a pink background"])
    model: str = Field("", max_length=200, description="The name of a model; empty for the server's first.")
    negative_prompt: str = Field("", max_length=MAX_TEXT)
    width: int | None = Field(
        None, ge=1, description="Pixels. Multiples and limits depend on the model and the server."
    )
    height: int | None = Field(None, ge=1)
    num_inference_steps: int | None = Field(None, ge=1)
    guidance_scale: float | None = Field(None, ge=0, le=MAX_GUIDANCE_SCALE)
    seed: int | None = Field(None, ge=0, le=MAX_SEED - MAX_IMAGES)
    num_images: int = Field(1, ge=1, le=MAX_IMAGES)
    adapters: list[AdapterChoice] = Field([], max_length=MAX_ADAPTERS)
    solver: str = Field("", max_length=100, description="docs/solvers.md has the names.")
    priority: int = Field(0, ge=-MAX_PRIORITY, le=MAX_PRIORITY)
    deadline_seconds: float | None = Field(None, gt=0)
    signature: SignatureRequest | None = None
    preview_every_steps: int = Field(0, ge=0, le=MAX_PREVIEW_EVERY, description="0: no previews.")
    init_image: str | None = Field(None, description="A PNG, JPEG or WebP file, in base64.", max_length=1 << 27)
    strength: float | None = Field(
        None, gt=0, le=1, description=f"How much of the init image is painted anew; {DEFAULT_STRENGTH} beside one."
    )
    use_refiner: bool | None = Field(
        None, description="Left out: where the model has a refiner and the server uses it."
    )
    refiner_strength: float | None = Field(
        None, ge=0, le=1, description="The share of the noise schedule that is the refiner's."
    )
    webhook: WebhookRequest | None = None
    idempotency_key: str = Field(
        "", max_length=MAX_IDEMPOTENCY_KEY, description="The header Idempotency-Key says the same."
    )

    def command(self, owner: str, idempotency_key: str = "", *, init_image: bytes | None = None) -> Submit:
        """The Submit; `init_image` where that was read before. Raises Refusal."""
        return Submit(
            owner=owner,
            prompt=self.prompt,
            model=self.model,
            negative_prompt=self.negative_prompt,
            width=self.width,
            height=self.height,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            num_images=self.num_images,
            adapters=tuple(AdapterUse(use.name, use.scale) for use in self.adapters),
            solver=self.solver,
            priority=self.priority,
            deadline_seconds=self.deadline_seconds,
            signature=signature_of(self.signature) if self.signature else None,
            preview_every_steps=self.preview_every_steps,
            init_image=from_base64("init_image", self.init_image or "") if init_image is None else init_image,
            strength=self.strength,
            use_refiner=self.use_refiner,
            refiner_strength=self.refiner_strength,
            webhook=webhook_of(self.webhook) if self.webhook else None,
            idempotency_key=_one_key(self.idempotency_key, idempotency_key),
        )


def signature_of(given: SignatureRequest) -> Signature:
    """Raises Refusal."""
    if (given.text is None) == (given.image is None):
        raise Refusal.invalid("signature", "one of text and image", None)
    try:
        mark = ImageMark(from_base64("signature.image", given.image)) if given.image is not None else _text(given.text)
        return Signature(
            mark=mark,
            position=Position.named(given.position),
            size=Size.named(given.size),
            opacity=given.opacity,
            artist=given.artist,
        )
    except SignatureError as error:
        field = f"signature.{error.field}"
        raise Refusal(Code.INVALID_PARAMETER, f"{field}: {error.message}", field=field, limit=error.limit) from None


def webhook_of(given: WebhookRequest) -> Webhook:
    """One that hears of the whole job."""
    events = frozenset(map(HookEvent, given.events))
    return Webhook(kind=HookKind.GENERIC, url=given.url, events=events or ALL_EVENTS)


def from_base64(field: str, text: str) -> bytes:
    """Raises Refusal."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal.invalid(field, "base64", "something else") from None


def _text(text: str | None) -> TextMark:
    assert text is not None
    return TextMark(text)


def _one_key(in_body: str, in_header: str) -> str:
    if in_body and in_header and in_body != in_header:
        raise Refusal.invalid("idempotency_key", "what the header Idempotency-Key says", in_body)
    return in_header or in_body


# Answers


class ArtifactBody(BaseModel):
    """A picture, and where it can be fetched."""

    image_index: int
    url: str
    size: int = Field(description="Bytes.")
    sha256: str
    content_type: str
    width: int
    height: int
    seed: int


class FailureBody(BaseModel):
    """Why a job failed; `code` as in every error."""

    code: str
    message: str
    details: ErrorDetails


class JobBody(BaseModel):
    """A job as it stands. Times are ISO 8601 in UTC. One that paints nothing has an `input`, and no sizes or steps."""

    id: str
    state: Annotated[str, Field(json_schema_extra={"enum": [state.value for state in JobState]})]
    model: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    num_inference_steps: int
    guidance_scale: float
    seed: int
    num_images: int
    solver: str
    priority: int
    adapters: list[AdapterChoice]
    refiner_strength: float = Field(
        description="The share of the noise schedule that is the refiner's; 0: there is none."
    )
    progress: float = Field(description="0 to 1, over all images.")
    created_at: str
    started_at: str | None
    completed_at: str | None
    artifacts: list[ArtifactBody]
    warnings: list[str]
    error: FailureBody | None
    last_event: int = Field(description="The number of its latest event.")
    input: dict[str, Any] | None = Field(None, description="Of a job that paints nothing: what was asked for.")
    output: Any = Field(None, description="What came of it: a text.")
    figures: dict[str, float] = Field(
        {}, description="Of how it came about: input_token_count, output_token_count; cached."
    )


class JobsBody(BaseModel):
    """A page of jobs; `next` is the `cursor` of the one that follows, null after the last."""

    jobs: list[JobBody]
    next: str | None


class CancelBody(BaseModel):
    """`state` is the job's when the request came; its events say what became of it."""

    id: str
    state: str


def artifact_body(base_url: str, job_id: str, artifact: Artifact) -> ArtifactBody:
    """A picture; `base_url` is this door's, for pictures that have no other address."""
    return ArtifactBody(
        image_index=artifact.image_index,
        url=picture_url(base_url, job_id, artifact),
        size=artifact.size,
        sha256=artifact.sha256,
        content_type=artifact.content_type,
        width=artifact.width,
        height=artifact.height,
        seed=artifact.seed,
    )


def failure_body(failure: JobFailure) -> FailureBody:
    """As every error is told."""
    details = ErrorDetails(field=failure.field or None, limit=failure.limit or None)
    return FailureBody(code=failure.code.name, message=failure.message, details=details)


def job_body(view: JobView, base_url: str) -> JobBody:
    """The whole job."""
    job = view.job
    return JobBody(
        id=job.id,
        state=job.state.value,
        model=shown(job.request.model),
        seed=job.request.seed,
        priority=job.request.priority,
        progress=view.fraction,
        created_at=time_text(job.created_at),
        started_at=None if job.started_at is None else time_text(job.started_at),
        completed_at=None if job.completed_at is None else time_text(job.completed_at),
        artifacts=[artifact_body(base_url, job.id, artifact) for artifact in job.artifacts],
        warnings=list(job.warnings),
        error=failure_body(job.failure) if job.failure else None,
        last_event=view.last_event,
        output=job.output,
        figures=dict(job.figures),
        **_asked(job.request),
    )


def _asked(request: Request) -> dict[str, Any]:
    """What was asked for."""
    if not isinstance(request, GenerationRequest):
        none = {"width": 0, "height": 0, "num_inference_steps": 0, "guidance_scale": 0.0, "num_images": 0}
        words = {"prompt": str(request.input.get("prompt", "")), "negative_prompt": "", "solver": ""}
        return {**none, **words, "adapters": [], "refiner_strength": 0.0, "input": request.input}
    return {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "num_images": request.num_images,
        "solver": request.solver,
        "adapters": [
            AdapterChoice.model_construct(name=shown_name(use.name), scale=use.scale) for use in request.adapters
        ],
        "refiner_strength": request.refiner_strength or 0.0,
    }
