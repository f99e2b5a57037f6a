"""Documentation to read and to try: /docs (Swagger UI) and /redoc, with all that they load served by us.

They work on a closed network, and their Content-Security-Policy lets nothing else in. Styles alone are not held to files of ours:
both pages write some into themselves.
"""

from __future__ import annotations

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import APIRouter, Request, Response
from starlette.exceptions import HTTPException

from server.doors.http.parts import HttpParts

FOLDER = Path(__file__).resolve().parent / "static"
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",  # blob: a picture that an answer shows
        "connect-src 'self'",
        "worker-src blob:",  # redoc's search
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
KEPT = "no-cache"  # asked for again, and mostly answered by 304: a new version is seen at once
SUFFIXES = (".html", ".js", ".css", ".png")


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file, and what is said with it."""

    content: bytes
    content_type: str
    etag: str


@cache
def static_files() -> Mapping[str, StaticFile]:
    """Every file by its path: 3 MB, read once, when the first application is made."""
    found: dict[str, StaticFile] = {}
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in SUFFIXES:
            content = path.read_bytes()
            kind = mimetypes.types_map[path.suffix]
            text = "; charset=utf-8" if kind.startswith("text/") else ""
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[path.relative_to(FOLDER).as_posix()] = StaticFile(content, kind + text, etag)
    return found


def routes(parts: HttpParts) -> APIRouter:
    """/docs, /redoc, /static."""
    router = APIRouter(include_in_schema=False)
    files = static_files()

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        return _told(request, files["docs.html"])

    @router.get("/redoc")
    async def redoc(request: Request) -> Response:
        return _told(request, files["redoc.html"])

    @router.get("/static/{path:path}")
    async def static(request: Request, path: str) -> Response:
        found = files.get(path)
        if found is None:
            raise HTTPException(404)
        return _told(request, found)

    return router


def _told(request: Request, file: StaticFile) -> Response:
    headers = {"ETag": file.etag, "Cache-Control": KEPT, "Content-Security-Policy": POLICY}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(file.content, headers=headers, media_type=file.content_type)
