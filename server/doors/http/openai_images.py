"""OpenAI's images API: a request is answered when its pictures are there, or, with `stream`, as they form.

Who goes away has no other way to its pictures, so that the job is canceled, unless the request had an Idempotency-Key: then it
may come again, and is answered with the same job.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import ClientDisconnect

from ai.cards import ModelCard
from server.commands import MAX_IDEMPOTENCY_KEY, GetModel, Submit
from server.doors.http.base64_pictures import JsonWithPictures
from server.doors.http.errors import STATUSES, answer, documented, explained
from server.doors.http.events import CONTENT, EventStream
from server.doors.http.forms import described, read_form
from server.doors.http.identity import Owner
from server.doors.http.openai_events import ImageEvents
from server.doors.http.openai_requests import (
    EditRequest,
    GenerateRequest,
    ImageWishes,
    renamed,
    steps_between,
)
from server.doors.http.parts import HttpParts, cancel, carry_out, listen_to, parts_of, submit
from server.doors.http.pictures import base_url, picture_url
from server.doors.http.waiting import JobCanceled, end_of, wait_for_end
from server.errors import AtelierError, Code, Refusal
from server.events import Artifact
from server.job import Job
from server.replies import FoundModel

IMAGE_STATUSES = {**STATUSES, Code.INVALID_PARAMETER: 400, Code.ADAPTER_INVALID: 400}
"""As OpenAI answers: its clients know a bad request by 400."""

USAGE = {
    "input_tokens": 0,
    "input_tokens_details": {"image_tokens": 0, "text_tokens": 0},
    "output_tokens": 0,
    "total_tokens": 0,
}
"""Its clients look for it; nothing is counted in tokens here."""

IdempotencyKey = Annotated[str, Header(max_length=MAX_IDEMPOTENCY_KEY, description="One key, one job.")]
_FILES = {
    "image": "A PNG, JPEG or WebP file; `image[]`, given once, is the same.",
}


class ImageBody(BaseModel):
    """One picture: `b64_json` or `url`, as was asked for."""

    b64_json: str | None = None
    url: str | None = None
    seed: int


class TokensBody(BaseModel):
    """Always 0."""

    image_tokens: int
    text_tokens: int


class UsageBody(BaseModel):
    """Always 0: nothing is counted in tokens."""

    input_tokens: int
    input_tokens_details: TokensBody
    output_tokens: int
    total_tokens: int


class ImagesBody(BaseModel):
    """The pictures. `warnings` say what of the request changed nothing, or was dropped; `job_id` is the job's, at /v1/jobs."""

    created: int
    data: list[ImageBody]
    output_format: str
    size: str
    background: str
    usage: UsageBody
    warnings: list[str]
    job_id: str


RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "model": ImagesBody,
        "content": CONTENT,
        "description": "The pictures; with `stream`, server-sent events.",
    },
    **documented(404, 408, 409, 429, 504),
}


class ImageRoute(APIRoute):
    """A route that refuses as OpenAI does: 400 for what does not fit, and its client is told what it need not try again."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's, with errors of our own."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            detail: Any = None
            error: AtelierError
            try:
                return await inner(request)
            except RequestValidationError as invalid:
                error, detail = explained(invalid.errors())
            except AtelierError as raised:
                error = renamed(raised)
            again = {"X-Should-Retry": "true" if error.retry_after_seconds else "false"}
            now = parts_of(request).clock.seconds()
            return answer(error, now, status=IMAGE_STATUSES[error.code], detail=detail, headers=again)

        return handle


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that was read: what it wishes, and the Submit that it is, but for how often previews are made."""

    wishes: ImageWishes
    command: Callable[[int], Submit]
    kind: str  # image_generation or image_edit, in events
    lasting: bool  # whether it may come again: by its key


def routes(parts: HttpParts) -> APIRouter:
    """/v1/images."""
    router = APIRouter(prefix="/v1/images", tags=["openai"], route_class=ImageRoute)

    @router.post("/generations", response_model=ImagesBody, responses=RESPONSES, operation_id="generate_images")
    async def generate_images(
        request: Request, asked: GenerateRequest, owner: Owner, idempotency_key: IdempotencyKey = ""
    ) -> Response:
        """Pictures from words, as OpenAI's `images.generate`."""
        command = partial(asked.command, owner, idempotency_key)
        return await _paint(parts, request, Asked(asked, command, "image_generation", bool(idempotency_key)))

    @router.post(
        "/edits",
        response_model=ImagesBody,
        responses=RESPONSES,
        openapi_extra=described(EditRequest, _FILES, ["image"]),
        operation_id="edit_image",
    )
    async def edit_image(request: Request, owner: Owner, idempotency_key: IdempotencyKey = "") -> Response:
        """A picture painted anew as far as `strength` says, as OpenAI's `images.edit`. Masks are refused."""
        asked, files = await read_form(request, EditRequest, ("image", "image[]", "mask"))
        command = partial(asked.command, owner, idempotency_key, _one_image(files))
        return await _paint(parts, request, Asked(asked, command, "image_edit", bool(idempotency_key)))

    return router


def _one_image(files: Mapping[str, list[bytes]]) -> bytes:
    if "mask" in files:
        raise Refusal.invalid("mask", "left out: the whole picture is painted anew, as far as strength says", "a file")
    images: list[bytes] = [*files.get("image", ()), *files.get("image[]", ())]
    if len(images) != 1:
        raise Refusal.invalid("image", "one file", f"{len(images)} files")
    return images[0]


async def _paint(parts: HttpParts, request: Request, asked: Asked) -> Response:
    partial_images = asked.wishes.most_partial_images
    every = await _preview_every(parts, asked.command(0).owner, asked.wishes, partial_images)
    admitted = await submit(parts, asked.command(every))
    job = admitted.job
    if asked.wishes.stream:
        return await _stream(parts, asked, job, partial_images)
    return await _whole(parts, request, asked, job)


async def _preview_every(parts: HttpParts, owner: str, wishes: ImageWishes, partial_images: int) -> int:
    """After how many steps to make previews; the server's own default of steps may be another, which shows only in how many."""
    if not partial_images:
        return 0
    wanted = wishes.model or next((view.name for view in parts.health.models() if isinstance(view.card, ModelCard)), "")
    try:
        found: FoundModel = await carry_out(parts, GetModel(owner=owner, model=wanted))
    except Refusal:
        return 0  # the job will be refused for it
    card = (found.version or found.model).card
    if not isinstance(card, ModelCard):
        return 0
    steps = wishes.num_inference_steps or card.defaults.num_inference_steps
    return steps_between(_steps_made(steps, getattr(wishes, "strength", None)), partial_images)


def _steps_made(steps: int, strength: float | None) -> int:
    return max(1, int(steps * strength)) if strength else steps


async def _stream(parts: HttpParts, asked: Asked, job: Job, partial_images: int) -> Response:
    events = ImageEvents(
        job=job,
        kind=asked.kind,
        partial_images=partial_images,
        warnings=asked.wishes.unheeded(),
        artifacts=parts.artifacts,
        chunk_bytes=parts.limits.chunk_bytes,
        clock=parts.clock,
        usage=USAGE,
    )
    listener = await listen_to(parts, job.owner, job.id, progress=False)

    async def gone() -> None:
        if not asked.lasting:
            await cancel(parts, job.owner, job.id)

    return EventStream(listener, events.encode, preface=b"", gone=gone)


async def _whole(parts: HttpParts, request: Request, asked: Asked, job: Job) -> Response:
    try:
        view = await wait_for_end(parts, request, job.owner, job.id, parts.waits.generation_timeout)
    except ClientDisconnect:
        if not asked.lasting:
            await cancel(parts, job.owner, job.id)
        raise
    try:
        job = (await end_of(parts, job.owner, view, parts.waits.generation_timeout, keeps=asked.lasting)).job
    except JobCanceled as error:  # by somebody else
        return answer(error, parts.clock.seconds(), status=409)
    own = base_url(parts, request)
    given: list[bytes | Artifact] = []
    for artifact in job.artifacts:
        given.extend(_image(asked.wishes, artifact, picture_url(own, job.id, artifact)))
    head, tail = _frame(asked.wishes, job, int(parts.clock.seconds()))
    return JsonWithPictures([head, *given[1:], tail], parts.artifacts, parts.limits.chunk_bytes)


def _image(wishes: ImageWishes, artifact: Artifact, url: str) -> list[bytes | Artifact]:
    """A comma, and a picture."""
    if wishes.response_format == "url":
        return [b",", json.dumps({"url": url, "seed": artifact.seed}).encode()]
    return [b",", b'{"b64_json":"', artifact, b'","seed":%d}' % artifact.seed]


def _frame(wishes: ImageWishes, job: Job, created: int) -> tuple[bytes, bytes]:
    """What comes before the pictures, and after them."""
    rest = {
        "output_format": "png",
        "size": f"{job.pictures_asked.width}x{job.pictures_asked.height}",
        "background": "opaque",
        "usage": USAGE,
        "warnings": [*wishes.unheeded(), *job.warnings],
        "job_id": job.id,
    }
    return b'{"created":%d,"data":[' % created, b"]," + json.dumps(rest).encode()[1:]
