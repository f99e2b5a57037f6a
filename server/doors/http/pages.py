"""Documentation to read and to try: /docs (Swagger UI) and /redoc, with all that they load served by us, /openapi.json too.

They work on a closed network, and their Content-Security-Policy lets nothing else in. Styles alone are not held to files of ours:
both pages write some into themselves.
"""

from __future__ import annotations

import hashlib
import json
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

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


class InPieces(Response):
    """Bytes that all requests share, sent as the client reads them: what a socket does not take of a message is copied."""

    def __init__(self, content: bytes, piece_bytes: int, **given: Any) -> None:
        super().__init__(content, **given)
        self._content = content
        self._piece_bytes = piece_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for begin in range(0, len(self._content), self._piece_bytes):
            piece = self._content[begin : begin + self._piece_bytes]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def routes(parts: HttpParts) -> APIRouter:
    """/docs, /redoc, /static, /openapi.json."""
    router = APIRouter(include_in_schema=False)
    files = static_files()
    piece_bytes = parts.limits.chunk_bytes

    @cache
    def description(app: FastAPI) -> bytes:
        return json.dumps(app.openapi(), ensure_ascii=False, separators=(",", ":")).encode()

    @router.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        return InPieces(description(request.app), piece_bytes, media_type="application/json")

    @router.get("/docs")
    async def docs(request: Request) -> Response:
        return _told(request, files["docs.html"], piece_bytes)

    @router.get("/redoc")
    async def redoc(request: Request) -> Response:
        return _told(request, files["redoc.html"], piece_bytes)

    @router.get("/static/{path:path}")
    async def static(request: Request, path: str) -> Response:
        found = files.get(path)
        if found is None:
            raise HTTPException(404)
        return _told(request, found, piece_bytes)

    return router


def _told(request: Request, file: StaticFile, piece_bytes: int) -> Response:
    headers = {"ETag": file.etag, "Cache-Control": KEPT, "Content-Security-Policy": POLICY}
    if file.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return InPieces(file.content, piece_bytes, headers=headers, media_type=file.content_type)
