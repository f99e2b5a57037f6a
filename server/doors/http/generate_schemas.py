"""The JSON of the SDXL routes, in the words of the servers that there were before: steps, refiner_strength, meta.

Requests are read as those servers read them: a number may be written as a text (server.doors.http.lenient), a field
that is not known means nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from server.commands import DEFAULT_STRENGTH, MAX_GUIDANCE_SCALE, Submit
from server.doors.http.errors import time_text
from server.doors.http.lenient import LenientBool, LenientFloat, LenientInt
from server.doors.http.schemas import MAX_TEXT
from server.errors import AtelierError, JobFailure, Refusal
from server.job import Job
from server.model_names import shown

NAMES: Mapping[str, str] = {  # what the rest of the server calls it: what it is called here
    "num_inference_steps": "steps",
    "init_image": "image",
}
LENIENT = ConfigDict(extra="ignore", allow_inf_nan=False)


class GenerateRequest(BaseModel):
    """Left out, or null: the server's default. Out of range is refused, never clamped."""

    model_config = LENIENT
    prompt: str = Field(min_length=1, max_length=MAX_TEXT, examples=["a big green tree on a pink background"])
    negative_prompt: str | None = Field(None, max_length=MAX_TEXT)
    width: LenientInt = Field(None, description="Pixels, 64 to MAX_WIDTH, a multiple of 8.")
    height: LenientInt = Field(None, description="Pixels, 64 to MAX_HEIGHT, a multiple of 8.")
    steps: LenientInt = Field(None, description="1 to MAX_STEPS.", examples=[8])
    guidance_scale: LenientFloat = Field(None, description=f"0 to {MAX_GUIDANCE_SCALE:g}; 1 or less: no guidance.")
    seed: LenientInt = Field(None, description="0 or more; left out: chosen, and told in the answer.", examples=[7])
    use_refiner: LenientBool = Field(None, description="Of a model without a refiner it changes nothing.")
    refiner_strength: LenientFloat = Field(None, description="The refiner's share of the noise schedule, 0 to 1.")

    def command(self, owner: str, *, refines: bool, seconds: float, idempotency_key: str, **more: Any) -> Submit:
        """The Submit, with `seconds` to be painted in. A model that has no refiner is not asked for one. Raises Refusal."""
        return Submit(
            owner=owner,
            prompt=self.prompt,
            negative_prompt=self.negative_prompt or "",
            width=self.width,
            height=self.height,
            num_inference_steps=self.steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            use_refiner=self.use_refiner if refines else None,
            refiner_strength=self.refiner_strength if refines else None,
            deadline_seconds=seconds,
            idempotency_key=idempotency_key,
            **more,
        )


class Img2ImgRequest(GenerateRequest):
    """The fields beside the image."""

    width: LenientInt = Field(None, description="Pixels; left out: the image's own, rounded down to a multiple of 8.")
    height: LenientInt = Field(None, description="As width.")
    strength: LenientFloat = Field(
        None, description=f"How much is painted anew, more than 0 and at most 1; {DEFAULT_STRENGTH} if left out."
    )

    @classmethod
    def of_form(cls, texts: Mapping[str, str | None]) -> Self:
        """From a form's fields. Raises RequestValidationError, as FastAPI does of JSON."""
        try:
            return cls.model_validate({name: text for name, text in texts.items() if text is not None})
        except ValidationError as error:
            problems = error.errors(include_url=False, include_input=False)
            raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in problems]) from None


class MetaBody(BaseModel):
    """What a picture was made from. `refiner_strength` is 0 where no refiner was used; `strength` is img2img's alone."""

    id: str = Field(description="32 hexadecimal digits.")
    created_at: str = Field(description="ISO 8601 in UTC.")
    model_id: str
    prompt: str
    negative_prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    device: str = Field(description="What this server paints with: cpu or cuda.")
    refiner_used: bool
    refiner_strength: float
    image_file: str
    meta_file: str


class Img2ImgMetaBody(MetaBody):
    """The same with the strength."""

    strength: float


class GenerateBody(BaseModel):
    """A picture that is painted."""

    id: str
    image_url: str
    meta_url: str
    meta: Img2ImgMetaBody | MetaBody


def meta_of(job: Job, device: str) -> MetaBody:
    """Of a job that has succeeded."""
    request = job.pictures_asked
    told: dict[str, Any] = {
        "id": job.id,
        "created_at": time_text(job.created_at),
        "model_id": shown(request.model),
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "width": request.width,
        "height": request.height,
        "steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "seed": request.seed,
        "device": device,
        "refiner_used": bool(request.refiner_strength),
        "refiner_strength": request.refiner_strength or 0.0,
        "image_file": f"{job.id}.png",
        "meta_file": f"{job.id}.json",
    }
    return Img2ImgMetaBody(**told, strength=request.strength) if request.strength else MetaBody(**told)


def image_url(job: Job) -> str:
    """Where the picture of a job that has succeeded is, at this door."""
    return f"/outputs/images/{job.id}.png{job.artifacts[0].access}"


def meta_url(job: Job) -> str:
    """Where its meta is."""
    return f"/outputs/metadata/{job.id}.json{job.artifacts[0].access}"


def generate_body(job: Job, device: str) -> GenerateBody:
    """Of a job that has succeeded."""
    return GenerateBody(id=job.id, image_url=image_url(job), meta_url=meta_url(job), meta=meta_of(job, device))


def in_these_words(refusal: AtelierError) -> AtelierError:
    """A refusal or a failure by the names that fields have here."""
    ours = NAMES.get(refusal.field)
    if ours is None:
        return refusal
    kind = JobFailure if isinstance(refusal, JobFailure) else Refusal
    return kind(
        refusal.code,
        refusal.message.replace(refusal.field, ours),
        field=ours,
        limit=refusal.limit,
        retry_after_seconds=refusal.retry_after_seconds,
    )
