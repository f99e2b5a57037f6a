"""Stored pictures over HTTP, piece by piece as the client reads, to those who may see them (server.picture_access): an address
that answers tell is signed, so that it can stand in a page's <img>.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import structlog
from fastapi import APIRouter, Path, Request
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.doors.http.errors import documented
from server.doors.http.identity import principal_of
from server.doors.http.parts import HttpParts
from server.errors import Code, Refusal
from server.events import Artifact
from server.identity import host_name
from server.interfaces import ArtifactStore
from server.job import Job
from server.jobs.board import job_not_found
from server.object_keys import picture_path
from server.principal import Scope as Need

log = structlog.get_logger("atelier.http")

FOR_EVER = "private, max-age=31536000, immutable"  # a job's pictures never change
_HOST = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def base_url(parts: HttpParts, connection: HTTPConnection) -> str:
    """What this door is called: by its setting, else by the request that came."""
    if parts.base_url:
        return parts.base_url
    scope = connection.scope
    secure = scope["scheme"] in ("https", "wss")
    host = connection.headers.get("host", "")
    if not _HOST.fullmatch(host) or not host_name(host):
        address, port = scope.get("server") or ("127.0.0.1", None)
        host = f"{address}:{port}" if port else str(address)
    return f"{'https' if secure else 'http'}://{host}"


def picture_url(base_url: str, job_id: str, artifact: Artifact) -> str:
    """Where a picture can be fetched: where the storage says, else at this door."""
    return artifact.url or f"{base_url}{picture_path(job_id, artifact.image_index)}{artifact.access}"


async def seen_job(parts: HttpParts, request: Request, job_id: str) -> Job | None:
    """A job whose pictures this request may see: its owner's, a public one, one by a signed address. Raises Refusal."""
    job = await parts.store.get(job_id)
    access = parts.access
    if job is None or access is None or access.is_signed(job_id, request.query_params):
        return job
    headers = request.headers
    try:
        principal = await principal_of(parts, request)
    except Refusal:
        if "authorization" in headers or "x-api-key" in headers:
            raise
        principal = None
    if principal is not None and principal.owner == job.owner:
        principal.check(Need.READ)
        return job
    return job if await access.published.is_public(job_id) else None


async def find_picture(parts: HttpParts, request: Request, job_id: str, image_index: int) -> tuple[Job, Artifact]:
    """A stored picture that this request may see. Raises Refusal: JOB_NOT_FOUND where there is none, or none for them."""
    job = await seen_job(parts, request, job_id)
    for artifact in job.artifacts if job else ():
        if artifact.image_index == image_index:
            assert job is not None
            return job, artifact
    raise job_not_found(job_id)


class Picture(Response):
    """A stored picture: its content type, its sha256 as ETag, one Range, HEAD. At most one piece of it is in memory.

    A picture that cannot be read is refused (STORAGE_FAILED) before anything of it was said.
    """

    def __init__(
        self,
        artifact: Artifact,
        artifacts: ArtifactStore,
        chunk_bytes: int,
        *,
        cache_control: str = FOR_EVER,
    ) -> None:
        self.status_code = 200
        self.background = None
        self._artifact = artifact
        self._artifacts = artifacts
        self._chunk_bytes = chunk_bytes
        self._etag = f'"{artifact.sha256}"'
        self.init_headers(
            {
                "Content-Type": artifact.content_type,
                "ETag": self._etag,
                "Cache-Control": cache_control,
                "Accept-Ranges": "bytes",
                "Content-Disposition": "inline",
            }
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        asked = HTTPConnection(scope).headers
        size = self._artifact.size
        begin, end = 0, size
        if self._etag in asked.get("if-none-match", "") or asked.get("if-none-match", "").strip() == "*":
            self.status_code, begin, end = 304, 0, 0
        elif (part := asked.get("range")) is not None and asked.get("if-range", self._etag) == self._etag:
            wanted = part_of(part, size)
            if wanted is None:
                self.status_code, begin, end = 416, 0, 0
                self.headers["Content-Range"] = f"bytes */{size}"
            elif wanted != (0, size):
                self.status_code, (begin, end) = 206, wanted
                self.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{size}"
        if self.status_code != 304:
            self.headers["Content-Length"] = str(end - begin)
        await self._send(begin, begin if scope["method"] == "HEAD" else end, send)

    async def _send(self, begin: int, end: int, send: Send) -> None:
        piece = await self._piece(begin, end)
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while True:
            begin += len(piece)
            await send({"type": "http.response.body", "body": piece, "more_body": begin < end})
            if begin >= end:
                return
            piece = await self._piece(begin, end)

    async def _piece(self, begin: int, end: int) -> bytes:
        if begin >= end:
            return b""
        return await read_piece(self._artifacts, self._artifact, begin, min(self._chunk_bytes, end - begin))


async def read_piece(artifacts: ArtifactStore, artifact: Artifact, begin: int, size: int) -> bytes:
    """At most `size` bytes of a stored picture, and at least one. Raises Refusal (STORAGE_FAILED)."""
    try:
        piece = await artifacts.read(artifact.key, begin, size)
        if not piece:
            raise OSError("it is shorter than it was")
    except OSError as error:
        log.error("picture.unreadable", key=artifact.key, reason=error.strerror or str(error))
        raise Refusal(Code.STORAGE_FAILED, "the picture cannot be read now", retry_after_seconds=5.0) from None
    return piece


def part_of(asked: str, size: int) -> tuple[int, int] | None:
    """Of a Range header: from where to where (exclusive); everything where it is not understood (RFC 9110, 14.2), None where
    there is nothing."""
    found = _RANGE.fullmatch(asked.strip())
    if found is None or not any(found.groups()):
        return 0, size
    first, last = found.groups()
    if not first:
        return (max(0, size - int(last)), size) if int(last) else None
    begin, end = int(first), min(size, int(last) + 1) if last else size
    if last and int(last) < int(first):
        return 0, size
    return (begin, end) if begin < size else None


def picture_responses(content_types: Sequence[str] = ("image/png",)) -> dict[int | str, dict[str, object]]:
    """A picture route's `responses`."""
    content = {kind: {"schema": {"type": "string", "format": "binary"}} for kind in content_types}
    return {
        200: {"content": content, "description": "The picture."},
        206: {"content": content, "description": "The asked part of it."},
        304: {"description": "The client has it."},
        416: {"description": "It is shorter."},
        **documented(404, 503),
    }


def routes(parts: HttpParts) -> APIRouter:
    """/pictures."""
    router = APIRouter(tags=["pictures"])

    @router.head("/pictures/{job_id}/{image_index}.png", include_in_schema=False)
    @router.get(
        "/pictures/{job_id}/{image_index}.png",
        response_class=Response,
        responses=picture_responses(),
        operation_id="get_picture",
    )
    async def get_picture(
        request: Request,
        job_id: Annotated[str, Path(max_length=64)],
        image_index: Annotated[int, Path(ge=0, le=63)],
    ) -> Response:
        """A picture of a job that has succeeded."""
        _, artifact = await find_picture(parts, request, job_id, image_index)
        return Picture(artifact, parts.artifacts, parts.limits.chunk_bytes)

    return router
