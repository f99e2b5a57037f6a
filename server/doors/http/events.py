"""A job's events as JSON, as server-sent events and over a WebSocket.

    id: 7
    event: progress
    data: {"job_id": "…", "event": "progress", "number": 7, "phase": "denoising", "step": 3, …}

Names: accepted, progress, preview, output (more of a text: its characters from `offset` on), and one of succeeded, failed,
canceled, after which nothing comes. Comments (lines that begin with a colon) say only that we live. A browser's
EventSource that comes back says by Last-Event-ID what it heard last.
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from server.doors.http.following import Hearing, Listener
from server.doors.http.identity import watched
from server.doors.http.parts import watch_client
from server.doors.http.schemas import artifact_body, failure_body
from server.errors import Refusal
from server.events import Accepted, Canceled, Event, Failed, Output, Preview, Progress, Succeeded

RETRY_MS = 2000  # after which EventSource comes back to a server that stopped
ALIVE = b": here\n\n"
REVOKED = 1008  # for one whose client may hear no more: a policy was violated
RESTARTING = 1012  # WebSocket's code for a server that stops, and comes back

TOLD: dict[type, tuple[str, Callable[[Any, str], dict[str, Any]]]] = {
    Accepted: ("accepted", lambda event, base_url: {"seed": event.seed}),
    Progress: (
        "progress",
        lambda event, base_url: {
            "phase": event.phase.value,
            "step": event.step,
            "total_steps": event.total_steps,
            "fraction": round(event.fraction, 4),
            "eta_seconds": round(event.eta_seconds, 3),
        },
    ),
    Preview: (
        "preview",
        lambda event, base_url: {
            "image_index": event.image_index,
            "step": event.step,
            "png": base64.b64encode(event.png).decode(),
        },
    ),
    Output: ("output", lambda event, base_url: {"offset": event.offset, "text": event.text}),
    Succeeded: (
        "succeeded",
        lambda event, base_url: {
            "artifacts": [artifact_body(base_url, event.job_id, one).model_dump() for one in event.artifacts],
            "warnings": list(event.warnings),
            "queued_seconds": round(event.queued_seconds, 3),
            "processing_seconds": round(event.processing_seconds, 3),
            "output": event.output,
            "figures": dict(event.figures),
        },
    ),
    Failed: (
        "failed",
        lambda event, base_url: {"error": failure_body(event.failure).model_dump(exclude_none=True)},
    ),
    Canceled: ("canceled", lambda event, base_url: {}),
}
"""The name and the body of each event."""


def told(event: Event, base_url: str) -> dict[str, Any]:
    """An event as an object; `base_url` is this door's, for addresses of pictures."""
    name, body = TOLD[type(event)]
    return {"job_id": event.job_id, "event": name, "number": event.number, **body(event, base_url)}


def sse(event: Event, base_url: str) -> bytes:
    """An event as text/event-stream has it."""
    data = json.dumps(told(event, base_url), separators=(",", ":"))
    return f"id: {event.number}\nevent: {TOLD[type(event)][0]}\ndata: {data}\n\n".encode()


def sse_error(refusal: Refusal) -> bytes:
    """The last of a stream whose client may hear no more."""
    data = json.dumps({"code": refusal.code.name, "message": refusal.message}, separators=(",", ":"))
    return f"event: error\ndata: {data}\n\n".encode()


class Revocation:
    """Lets a listener go when the credential that it was opened with is good no more; the `refusal` says so then."""

    def __init__(self, connection: HTTPConnection, listener: Hearing) -> None:
        self.refusal: Refusal | None = None
        self._listener = listener
        self.over = watched(connection, self._lost)

    def _lost(self, refusal: Refusal) -> None:
        self.refusal = refusal
        self._listener.let_go()


CONTENT: dict[str, Any] = {
    "text/event-stream": {
        "schema": {
            "type": "object",
            "description": "Each event; `data` is JSON.",
            "properties": {name: {"type": "string"} for name in ("id", "event", "data")},
        }
    }
}
"""A stream of events as a route's `responses` have it."""

Encode = Callable[[Event], bytes | AsyncIterator[bytes]]
RETRY = f"retry: {RETRY_MS}\n\n".encode()


class EventStream(Response):
    """Everything that a listener hears, until it is over. The response begins when the job is found; a slow reader hears less.

    `encode` makes an event into bytes, or into pieces of them; b"" leaves it out. `preface` comes before all. `gone` is called
    where the client went away before the end.
    """

    media_type = "text/event-stream"

    def __init__(
        self,
        listener: Hearing,
        encode: Encode,
        *,
        preface: bytes = RETRY,
        gone: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._listener = listener
        self._encode = encode
        self._preface = preface
        self._gone = gone

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        async with self._listener as listener:
            watching = asyncio.ensure_future(watch_client(receive, listener))
            revocation = Revocation(HTTPConnection(scope), listener)
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                if self._preface:
                    await send(_piece(self._preface))
                while not listener.over and not revocation.refusal:
                    event = await listener.next()
                    if event is not None and not revocation.refusal:
                        await self._say(event, send)
                    elif not listener.over:
                        await send(_piece(ALIVE))
                if revocation.refusal:
                    await send(_piece(sse_error(revocation.refusal)))
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                revocation.over()
                watching.cancel()
            if self._gone is not None and watching.done() and not listener.ended:
                await self._gone()

    async def _say(self, event: Event, send: Send) -> None:
        data = self._encode(event)
        if isinstance(data, bytes):
            if data:
                await send(_piece(data))
            return
        async for piece in data:
            await send(_piece(piece))


def _piece(data: bytes) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": True}


async def tell_socket(socket: WebSocket, listener: Listener, base_url: str) -> None:
    """The same over a WebSocket, each event a text message; closed with 1000 after the end, with 1012 when the server stops, with
    1008 (and UNAUTHENTICATED) when the client's credential is good no more."""
    async with listener:
        await socket.accept()
        watching = asyncio.ensure_future(watch_client(socket.receive, listener))
        revocation = Revocation(socket, listener)
        try:
            async for event in listener:
                if revocation.refusal:
                    break
                await socket.send_text(json.dumps(told(event, base_url), separators=(",", ":")))
        finally:
            revocation.over()
            watching.cancel()
    if not watching.done() or watching.cancelled():
        if revocation.refusal:
            await socket.close(REVOKED, revocation.refusal.code.name)
        else:
            await socket.close(1000 if listener.ended else RESTARTING)
