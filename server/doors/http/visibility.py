"""Private by default, public by choice: whether everybody may see a job's pictures."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from server.doors.http.errors import documented
from server.doors.http.identity import Owner
from server.doors.http.parts import HttpParts, look_at
from server.picture_access import PictureAccess

JobId = Annotated[str, Path(max_length=64, description="The id that the job was accepted with.")]


class Visibility(StrEnum):
    """Who may see pictures."""

    PRIVATE = "private"  # the owner, and whoever was given a signed address
    PUBLIC = "public"  # whoever knows the plain address


class VisibilityRequest(BaseModel):
    """What is to be."""

    visibility: Visibility


class VisibilityBody(VisibilityRequest):
    """What is."""

    id: str


def routes(parts: HttpParts) -> APIRouter:
    """/v1/jobs/{job_id}/visibility."""
    router = APIRouter(prefix="/v1/jobs/{job_id}/visibility", tags=["jobs"])
    if parts.access is not None:
        _add(router, parts, parts.access)
    return router


def _add(router: APIRouter, parts: HttpParts, access: PictureAccess) -> None:
    @router.get("", response_model=VisibilityBody, responses=documented(404), operation_id="get_visibility")
    async def get_visibility(job_id: JobId, owner: Owner) -> Response:
        """Who may see the pictures of a job of yours."""
        view = await look_at(parts, owner, job_id)
        public = await access.published.is_public(view.job.id)
        return _told(view.job.id, Visibility.PUBLIC if public else Visibility.PRIVATE)

    @router.put("", response_model=VisibilityBody, responses=documented(404), operation_id="set_visibility")
    async def set_visibility(request: Request, job_id: JobId, asked: VisibilityRequest, owner: Owner) -> Response:
        """Let everybody see the pictures of a job of yours, or nobody any more. Signed addresses hold either way."""
        view = await look_at(parts, owner, job_id)
        public = asked.visibility is Visibility.PUBLIC
        await access.published.set_public(view.job.id, public, at=parts.clock.seconds())
        return _told(view.job.id, asked.visibility)


def _told(job_id: str, visibility: Visibility) -> Response:
    return JSONResponse({"id": job_id, "visibility": visibility.value})
