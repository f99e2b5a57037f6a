"""The shortest way to what is asked for most: past the framework's search for a route, its dependencies and its exit stacks.

Two kinds of routes have one. A route that takes nothing (GET /health) is called as it stands. A route that takes a body may have
a `ByBody`, which answers what is plainly right; whatever it leaves (None) goes the framework's way with the body that was read,
so that the framework alone says what is wrong with a request, and says it once.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.clock import Clock
from server.doors.http.errors import Refused, answer
from server.errors import AtelierError

MOST_BYTES = 65_536  # of a body: beyond, the framework's share is nothing, and reading it twice might be much

ByBody = Callable[[Request, bytes], Awaitable[Response | None]]
"""Answers a request with this body; None where the framework should. `request` is for its headers; its body was read."""

Taken = tuple[APIRoute, ByBody | None]


class Shortcuts:
    """The layer before the framework's own. `by_body` has operations (`submit_job`) and what answers them."""

    def __init__(self, app: ASGIApp, routes: Iterable[BaseRoute], by_body: Mapping[str, ByBody], clock: Clock) -> None:
        self._app = app
        self._clock = clock
        self._taken = {
            (method, route.path): (route, by_body.get(route.operation_id or ""))
            for route in routes
            if isinstance(route, APIRoute) and (_takes_nothing(route) or route.operation_id in by_body)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        taken = self._taken.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if taken is None:
            await self._app(scope, receive, send)
            return
        route, by_body = taken
        scope["route"] = route  # as the router does: metrics have its path
        try:
            if by_body is None:
                response = await route.endpoint()
            else:
                body, whole = await _read(receive)
                response = await by_body(Request(scope), body) if len(body) <= MOST_BYTES else None
                if response is None:
                    await self._app(scope, _again(body, whole, receive), send)
                    return
        except Refused as refused:
            response = answer(refused.refusal, self._clock.seconds())
        except AtelierError as error:
            response = answer(error, self._clock.seconds())
        await response(scope, receive, send)


def _takes_nothing(route: APIRoute) -> bool:
    return "{" not in route.path and not inspect.signature(route.endpoint).parameters and not route.dependencies


async def _read(receive: Receive) -> tuple[bytes, bool]:
    """A body, and whether that is all of it: of a long one the rest is left. Raises ClientDisconnect, Refused."""
    pieces: list[bytes] = []
    size = 0
    while size <= MOST_BYTES:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if not message.get("more_body", False):
            return b"".join(pieces), True
    return b"".join(pieces), False


def _again(body: bytes, whole: bool, receive: Receive) -> Receive:
    """A `receive` that begins with what was read."""
    first: list[Message] = [{"type": "http.request", "body": body, "more_body": not whole}]

    async def read() -> Any:
        return first.pop() if first else await receive()

    return read
