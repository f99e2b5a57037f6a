"""What every request passes, in one plain ASGI layer: who may speak to us at all, a request id in and out, whose body is
read and how much of it, security headers, and a last net under what nobody expected.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from contextlib import suppress
from functools import lru_cache, partial

import structlog
from starlette.requests import ClientDisconnect, HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from server.doors.http.bodies import Bodies, Body, too_large
from server.doors.http.errors import CLIENT_GONE, answer, internal_error
from server.doors.http.identity import principal_of
from server.doors.http.noting import Noting
from server.doors.http.parts import HttpParts
from server.doors.http.rates import rate_headers
from server.errors import Code, Refusal
from server.identity import host_name
from server.incoming import INCOMING, Incoming, traceparent_of
from server.limits import STANDINGS, Rate, Standing

log = structlog.get_logger("atelier.http")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
WITHOUT_IDENTITY = frozenset({"/v1/auth/register", "/v1/auth/token"})  # how one comes by one
MAX_LOGIN_BYTES = 16 * 1024  # of their bodies: a name, an address and a password
MAX_LOGINS_BYTES = 1 << 20  # of all of these together
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
SAFETY: tuple[tuple[bytes, bytes], ...] = (  # unless a route has its own
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class Doorstep:
    """The outermost layer but for CORS."""

    def __init__(self, app: ASGIApp, parts: HttpParts) -> None:
        self._app = app
        self._clock = parts.clock
        uploads = parts.landing.limit if parts.landing else 0
        self._bodies = Bodies(parts.limits.max_body_bytes, parts.limits.max_bodies_bytes, uploads)
        self._noting = Noting(parts.accounts, parts.tasks)
        self._login_bodies = Bodies(MAX_LOGIN_BYTES, MAX_LOGINS_BYTES)
        self._principal_of = partial(principal_of, parts)
        serves = parts.identities.serves
        self._serves = (lambda host: True) if parts.anonymous_owner else lru_cache(maxsize=1024)(serves)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request_id, length, host, traceparent = _told(scope["headers"])
        INCOMING.set(Incoming("http", self._clock.seconds(), traceparent))
        scope.setdefault("state", {})["request_id"] = request_id.decode()
        refusal = self._refusal(scope, length, host)
        if scope["type"] == "websocket":
            with suppress(WebSocketDisconnect):  # the client went away in the middle of a message
                await (answer(refusal, self._clock.seconds()) if refusal else self._app)(scope, receive, send)
            return
        status = 0
        standings: dict[Rate, Standing] = {}
        STANDINGS.set(standings)

        async def say(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *_with_ours(message.get("headers", ()), request_id),
                    *rate_headers(standings.values()),
                ]
            await send(message)

        if refusal is not None:
            await answer(refusal, self._clock.seconds())(scope, receive, say)
            return
        body = None
        if scope["method"] not in _BODILESS:  # the framework reads a body before it asks whose it is
            body = self._reading(scope, receive)
        try:
            await self._app(scope, body or receive, say)
            self._noting.answered(scope, status)
        except ClientDisconnect:
            if not status:
                await Response(status_code=CLIENT_GONE)(scope, receive, say)
        except Exception:
            log.exception("request.broken", request_id=scope["state"]["request_id"], path=scope["path"][:200])
            if status:  # it cannot be told any more but by the connection's end
                raise
            await answer(internal_error(), self._clock.seconds())(scope, receive, say)
        finally:
            if body is not None:
                body.let_go()

    def _reading(self, scope: Scope, receive: Receive) -> Body:
        if scope["path"] in WITHOUT_IDENTITY:
            return self._login_bodies.reading(scope, receive, _nobody)
        return self._bodies.reading(scope, receive, partial(self._principal_of, HTTPConnection(scope)))

    def _refusal(self, scope: Scope, length: int, host: str) -> Refusal | None:
        client = scope.get("client")
        if not self._serves(client[0] if client else ""):
            return Refusal(Code.PERMISSION_DENIED, "without tokens, only this machine's own addresses are served")
        if host_name(host) is None:
            return Refusal(Code.MALFORMED_MESSAGE, "the header Host is no name or address", field="Host")
        most = self._bodies.limit_of(scope)
        return too_large(most) if length > most else None


async def _nobody() -> None:
    """Whose it is, is in the body."""


def _told(headers: Iterable[tuple[bytes, bytes]]) -> tuple[bytes, int, str, str]:
    """The request's id (its own, where that is harmless), how long its body says it is, its Host, its traceparent."""
    request_id, length, host, traceparent = b"", 0, "", ""
    for name, value in headers:
        if name == b"x-request-id":
            request_id = value if _REQUEST_ID.fullmatch(value) else b""
        elif name == b"content-length" and value.isdigit():
            length = int(value[:20])
        elif name == b"host":
            host = value.decode("latin-1")
        elif name == b"traceparent":
            traceparent = traceparent_of(value.decode("latin-1"))
    return request_id or secrets.token_hex(8).encode(), length, host, traceparent


def _with_ours(headers: Iterable[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    given = list(headers)
    names = {name for name, _ in given}
    given.extend(entry for entry in SAFETY if entry[0] not in names)
    given.append((b"x-request-id", request_id))
    return given


def request_id_of(request: Request) -> str:
    """For a route's own log lines."""
    return str(request.state.request_id)
