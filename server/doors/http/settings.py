"""The settings of many nodes: GET or POST /fetch {"configPath": "a/b"} gives what stands at that path, "" everything.

A secret is never told: where one belongs stands {"from": "environment"}, and the node that asks has it in its own environment.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from server.doors.http.errors import answer, documented
from server.doors.http.identity import Identify
from server.doors.http.parts import HttpParts
from server.errors import Code, Refusal
from server.interfaces import SettingsShelf
from server.principal import Principal, Scope

LONGEST = 256  # characters of a path: three names of 64
_UNKEPT = {"Cache-Control": "no-store"}

Node = Annotated[Principal, Depends(Identify(Scope.SETTINGS))]
"""A node with its key, or an admin."""


class FetchRequest(BaseModel):
    """Which settings."""

    model_config = ConfigDict(extra="forbid")

    configPath: str = Field(  # noqa: N815  # as clients of config servers write it
        default="",
        max_length=LONGEST,
        description="Names joined by /: `groups/gpu`, `instances/gpu-1/ATELIER_DEVICES`. Empty: everything.",
        examples=["groups/gpu"],
    )


Path = Annotated[str, Query(alias="configPath", max_length=LONGEST, description="As in the body of a POST.")]

_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What stands there: an object of settings, or a single value.",
        "content": {"application/json": {}},
    }
}


def routes(parts: HttpParts) -> APIRouter:
    """/fetch, where this node has settings to hand out."""
    router = APIRouter(tags=["settings"])
    shelf = parts.settings
    if shelf is None:
        return router

    async def told(shelf: SettingsShelf, path: str) -> JSONResponse:
        try:
            return JSONResponse(await shelf.at(path), headers=_UNKEPT)
        except Refusal as missing:
            return answer(missing, parts.clock.seconds(), status=404, detail=missing.message)

    @router.post("/fetch", responses={**_ANSWER, **documented(404)}, operation_id="fetch_settings")
    async def fetch_settings(asker: Node, asked: FetchRequest) -> JSONResponse:
        """Settings of all nodes, of a group or of one node, for keys with the scope `settings` and for admins."""
        return await told(shelf, asked.configPath)

    @router.get("/fetch", responses={**_ANSWER, **documented(404)}, operation_id="get_settings")
    async def get_settings(request: Request, asker: Node, path: Path = "") -> JSONResponse:
        """The same; a body as that of a POST comes before the query."""
        return await told(shelf, _path_of(await request.body(), path))

    return router


def _path_of(body: bytes, path: str) -> str:
    """What a GET asks for. Raises Refusal."""
    if not body:
        return path
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict):
        raise Refusal(Code.MALFORMED_MESSAGE, "the body is no JSON object", field="body", limit='{"configPath": "a/b"}')
    found = told.get("configPath", "")
    if told.keys() - {"configPath"} or not isinstance(found, str) or len(found) > LONGEST:
        raise Refusal.invalid("configPath", f"the only field, a text of at most {LONGEST} characters", "something else")
    return found
