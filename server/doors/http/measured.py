"""Requests are told to whoever measures them; the metrics are shown at /metrics, by a rule of their own."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.clock import Clock
from server.doors.http.errors import CLIENT_GONE, REFUSED
from server.doors.http.parts import HttpParts
from server.metrics.web import WebMeter

_BROKEN = 500


class Measured:
    """The layer around all others: a request from its headers to the end of its answer, a WebSocket from its greeting on."""

    def __init__(self, app: ASGIApp, meter: WebMeter, clock: Clock) -> None:
        self._app = app
        self._meter = meter
        self._clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        status = 0

        async def say(message: Message) -> None:
            nonlocal status
            status = status or _status(message)
            await send(message)

        state = scope.setdefault("state", {})
        began = self._clock.seconds()
        self._meter.began()
        try:
            await self._app(scope, receive, say)
        except Exception:
            status = status or _BROKEN
            raise
        finally:
            route = getattr(scope.get("route"), "path", "")
            seconds = max(0.0, self._clock.seconds() - began)
            self._meter.ended(route, scope.get("method", "GET"), status or CLIENT_GONE, seconds)
            if REFUSED in state:
                self._meter.refused(state[REFUSED])


def _status(message: Message) -> int:
    """What a message to the client says of how it was answered; 0 where it does not."""
    if message["type"] in ("http.response.start", "websocket.http.response.start"):
        return int(message["status"])
    return {"websocket.accept": 101, "websocket.close": 403}.get(message["type"], 0)


def routes(parts: HttpParts) -> APIRouter:
    """/metrics, which is for operators and their Prometheus: clients do not find it in the documentation."""
    router = APIRouter()
    measures = parts.measures
    if measures is None:
        return router

    @router.get("/metrics", include_in_schema=False)
    async def show_metrics(request: Request) -> Response:
        measures.access.check(request.client.host if request.client else "", request.headers)
        text, content_type = await measures.metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": content_type})

    return router
