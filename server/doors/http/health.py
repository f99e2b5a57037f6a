"""For whoever watches the process: is it there, can it do its work."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from server.doors.http.parts import HttpParts
from server.replies import ServerState


class LiveBody(BaseModel):
    """It answers."""

    status: str = "ok"


class ReadyBody(BaseModel):
    """`status` is loading, ready, draining or failed; `problem` says why it failed."""

    status: str
    problem: str = ""


def routes(parts: HttpParts) -> APIRouter:
    """/livez, /readyz."""
    router = APIRouter(tags=["health"])

    @router.get("/livez", response_model=LiveBody, operation_id="is_alive")
    async def is_alive() -> JSONResponse:
        """The process answers: restart it where it does not."""
        return JSONResponse({"status": "ok"})

    @router.get(
        "/readyz",
        response_model=ReadyBody,
        responses={503: {"model": ReadyBody, "description": "Not now: loading, stopping or failed."}},
        operation_id="is_ready",
    )
    async def is_ready() -> JSONResponse:
        """It can paint: send work elsewhere where it cannot."""
        state = parts.health.state
        ready = state is ServerState.READY
        told = {"status": state.value, "problem": "" if ready else parts.health.problem}
        return JSONResponse(told, 200 if ready else 503)

    return router
