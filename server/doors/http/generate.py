"""The SDXL dialect: a request that is answered with the picture's address and its meta when it is painted.

POST /api/v1/generate   JSON        → {id, image_url, meta_url, meta}
POST /api/v1/img2img    multipart   → the same, with the strength in the meta
GET  /outputs/images/{id}.png, /outputs/metadata/{id}.json
GET  /, /health
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from ai.cards import pictures_of
from server.doors.http.errors import answer, documented
from server.doors.http.generate_schemas import (
    GenerateBody,
    GenerateRequest,
    Img2ImgMetaBody,
    Img2ImgRequest,
    MetaBody,
    generate_body,
    image_url,
    in_these_words,
    meta_of,
)
from server.doors.http.identity import Owner
from server.doors.http.jobs import IdempotencyKey
from server.doors.http.multipart import MULTIPART, Upload, read_form
from server.doors.http.parts import HttpParts, has_ended, submit
from server.doors.http.pictures import Picture, base_url, find_picture, picture_responses, seen_job
from server.doors.http.schemas import JobBody, job_body
from server.doors.http.waiting import GRACE, JobCanceled, end_of, preference_of, wait_or_cancel
from server.errors import AtelierError, Refusal
from server.job import JobState
from server.jobs.board import job_not_found
from server.replies import ServerState

OutputId = Annotated[str, Path(max_length=64, description="The id that the picture was answered with.")]
PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {"type": "string"},
    "description": "respond-async: answer 202 with the job at once (or, with wait=5, after 5 seconds) if it is not done.",
}
PAINTED: dict[int | str, dict[str, Any]] = {
    202: {"model": JobBody, "description": "Asked for by `Prefer: respond-async`: the job, to be asked after."},
    409: {"model": documented(409)[409]["model"], "description": "The job was cancelled, or the idempotency key used."},
    **documented(404, 429, 504),
}


class RunningBody(BaseModel):
    """It runs."""

    status: str = "running"
    message: str
    docs: str


class HealthBody(BaseModel):
    """`status` is healthy, loading, draining or failed."""

    status: str
    cuda_available: bool
    cuda_device: str | None


def routes(parts: HttpParts) -> APIRouter:
    """/api/v1, /outputs, / and /health."""
    router = APIRouter(tags=["sdxl"])
    device = _Device(parts)

    @router.get("/", response_model=RunningBody, operation_id="is_running")
    async def is_running() -> JSONResponse:
        """It runs, and where it says how it is used."""
        return JSONResponse({"status": "running", "message": "Atelier: POST /api/v1/generate paints", "docs": "/docs"})

    @router.get(
        "/health",
        response_model=HealthBody,
        responses={503: {"model": HealthBody, "description": "Nothing can be painted any more."}},
        operation_id="is_healthy",
    )
    async def is_healthy() -> JSONResponse:
        """By what is known already: it answers as fast while pictures are painted."""
        state = parts.health.state
        told = {
            "status": "healthy" if state is ServerState.READY else state.value,
            "cuda_available": device.kind == "cuda",
            "cuda_device": device.cuda_name,
        }
        return JSONResponse(told, 503 if state is ServerState.FAILED else 200)

    @router.post(
        "/api/v1/generate",
        response_model=GenerateBody,
        responses=PAINTED,
        openapi_extra={"parameters": [PREFER]},
        operation_id="generate",
    )
    async def generate(
        request: Request, asked: GenerateRequest, owner: Owner, idempotency_key: IdempotencyKey = ""
    ) -> Response:
        """Paint from a prompt. Answers when the picture is done."""
        return await _painted(parts, device, request, asked, owner, idempotency_key)

    @router.post(
        "/api/v1/img2img",
        response_model=GenerateBody,
        responses=PAINTED,
        openapi_extra={"parameters": [PREFER], "requestBody": _form_schema()},
        operation_id="img2img",
    )
    async def img2img(request: Request, owner: Owner, idempotency_key: IdempotencyKey = "") -> Response:
        """Paint from a picture (PNG, JPEG or WebP) and a prompt. Answers when the picture is done."""
        form = await read_form(request)
        asked = Img2ImgRequest.of_form({name: form.text(name) for name in Img2ImgRequest.model_fields})
        image = _picture(form.upload("image"))
        return await _painted(
            parts, device, request, asked, owner, idempotency_key, init_image=image, strength=asked.strength
        )

    @router.head("/outputs/images/{job_id}.png", include_in_schema=False)
    @router.get(
        "/outputs/images/{job_id}.png",
        response_class=Response,
        responses=picture_responses(),
        operation_id="get_output_image",
    )
    async def get_output_image(request: Request, job_id: OutputId) -> Response:
        """A picture, to its owner, by a signed address or where it is public."""
        _, artifact = await find_picture(parts, request, job_id, 0)
        return Picture(artifact, parts.artifacts, parts.limits.chunk_bytes)

    @router.get(
        "/outputs/metadata/{job_id}.json",
        response_model=Img2ImgMetaBody | MetaBody,
        responses=documented(404),
        operation_id="get_output_meta",
    )
    async def get_output_meta(request: Request, job_id: OutputId) -> Response:
        """What a picture was made from, to whoever may see the picture."""
        job = await seen_job(parts, request, job_id)
        if job is None or job.state is not JobState.SUCCEEDED or not job.artifacts:
            raise job_not_found(job_id)
        return _json(meta_of(job, device.kind))

    return router


class _Device:
    """What this node paints with, as its engine said when it began. Asked of it until it has, then never again."""

    def __init__(self, parts: HttpParts) -> None:
        self._parts = parts
        self._device = ""
        self._name = ""

    @property
    def kind(self) -> str:
        """cpu or cuda; "" where nothing is painted, or nothing was said yet."""
        if not self._device:
            numbers = self._parts.numbers()
            self._device, self._name = numbers.device, numbers.device_name
        return self._device.partition(":")[0]

    @property
    def cuda_name(self) -> str | None:
        """What the driver calls it."""
        return (self._name or self._device) if self.kind == "cuda" else None


async def _painted(
    parts: HttpParts,
    device: _Device,
    request: Request,
    asked: GenerateRequest,
    owner: str,
    idempotency_key: str,
    **more: Any,
) -> Response:
    """The answer to a request for a picture. Raises Refusal, or what the job failed with."""
    prefers = preference_of(request.headers.getlist("prefer"))
    seconds = parts.waits.generation_timeout
    refines = any(card.refiner is not None for card in pictures_of(view.card for view in parts.health.models())[:1])
    try:
        command = asked.command(owner, refines=refines, seconds=seconds, idempotency_key=idempotency_key, **more)
        job = (await submit(parts, command)).job
        view = parts.board.view(job)
        patience = min(prefers.wait or 0.0, seconds) if prefers.respond_async else seconds + GRACE
        if patience and not has_ended(view):
            keeps = bool(idempotency_key) or prefers.respond_async
            view = await wait_or_cancel(parts, request, owner, job.id, patience, keeps=keeps)
        if prefers.respond_async and not has_ended(view):
            headers = {"Location": f"/v1/jobs/{job.id}", "Preference-Applied": "respond-async"}
            return _json(job_body(view, base_url(parts, request)), 202, headers)
        view = await end_of(parts, owner, view, seconds)
    except JobCanceled as error:
        return answer(error, parts.clock.seconds(), status=409)
    except AtelierError as error:
        raise in_these_words(error) from None
    return _json(generate_body(view.job, device.kind), headers={"Content-Location": image_url(view.job)})


def _json(body: BaseModel, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body.model_dump_json(), status, headers, "application/json")


def _picture(upload: Upload) -> bytes:
    """The bytes of what calls itself a picture, or nothing in particular. Raises Refusal."""
    kind = upload.content_type
    if kind and not kind.startswith("image/") and kind != "application/octet-stream":
        raise Refusal.invalid("image", "image/png, image/jpeg or image/webp", kind)
    return upload.data


def _form_schema() -> dict[str, Any]:
    """The form, for the API's description."""
    schema = Img2ImgRequest.model_json_schema()
    schema["properties"] = {
        "image": {"type": "string", "format": "binary", "description": "A PNG, JPEG or WebP file."},
        **schema["properties"],
    }
    schema["required"] = ["image", "prompt"]
    return {"required": True, "content": {MULTIPART: {"schema": schema}}}
