"""The metrics on a port of their own, with the two questions of orchestrators: /metrics, /livez, /readyz.

A worker has no other port; a gateway may keep its figures apart from its users' door. It answers GET, reads no body, and lets no
connection be idle for long.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

import structlog
from twisted.internet.address import UNIXAddress
from twisted.web import http
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from server.errors import Code, Refusal
from server.futures import Tasks
from server.metrics.access import Access
from server.replies import ServerState

log = structlog.get_logger("atelier.metrics")

IDLE = 30.0  # seconds: Prometheus keeps its connection between scrapes, and makes another where it was closed
_STATUS = {Code.UNAUTHENTICATED: 401, Code.PERMISSION_DENIED: 403}


class Tells(Protocol):
    """What is measured (`server.metrics.registry.Metrics`)."""

    async def text(self, accept: str) -> tuple[bytes, str]:
        """As Prometheus reads it, and the content type."""
        ...


class Stands(Protocol):
    """How the server is doing (`server.health.Health`)."""

    @property
    def state(self) -> ServerState:
        """In one word."""
        ...


class _Page(Resource):
    """What `answer` says to a request: bytes, or NOT_DONE_YET."""

    isLeaf = True  # noqa: N815  # Twisted's name

    def __init__(self, answer: Callable[[Any], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._answer = answer

    def render(self, request: Any) -> Any:
        """GET and HEAD; of the latter Twisted sends the headers alone."""
        if request.method not in (b"GET", b"HEAD"):
            request.setHeader("allow", "GET, HEAD")
            return _plain(request, http.NOT_ALLOWED, "GET is what is answered here")
        return self._answer(request)


class _BodylessRequest(Request):
    def handleContentChunk(self, data: bytes) -> None:  # noqa: N802
        """Nobody has anything to tell us here."""
        channel: Any = self.channel
        channel.transport.abortConnection()


class _QuietSite(Site):
    noisy = False

    def log(self, request: Any) -> None:
        """A line a scrape helps nobody."""


def metrics_site(metrics: Tells, access: Access, health: Stands) -> Site:
    """A Twisted factory to listen with."""
    answers: dict[bytes, Callable[[Any], Any]] = {
        b"/metrics": partial(_tell_metrics, metrics, access, Tasks()),
        b"/livez": lambda request: _plain(request, 200, "ok"),
        b"/readyz": partial(_tell_state, health),
    }
    root: Any = _Page(partial(_tell, answers))
    return _QuietSite(root, requestFactory=_BodylessRequest, timeout=IDLE)  # type: ignore[no-untyped-call]


def _tell(answers: dict[bytes, Callable[[Any], Any]], request: Any) -> Any:
    answer = answers.get(request.path)
    return _tell_nothing(request) if answer is None else answer(request)


def _tell_metrics(metrics: Tells, access: Access, tasks: Tasks, request: Any) -> Any:
    headers = _headers(request)
    try:
        access.check(_host(request.getClientAddress()), headers)
    except Refusal as refusal:
        if refusal.code is Code.UNAUTHENTICATED:
            request.setHeader("www-authenticate", "Bearer")
        return _plain(request, _STATUS[refusal.code], refusal.message)
    tasks.start(_answer(metrics, request, headers.get("accept", "")))
    return NOT_DONE_YET


async def _answer(metrics: Tells, request: Any, accept: str) -> None:
    gone: list[Any] = []
    request.notifyFinish().addErrback(gone.append)
    try:
        text, content_type = await metrics.text(accept)
        request.setHeader("content-type", content_type)
    except Exception:
        log.exception("metrics.broken")
        text = _plain(request, http.INTERNAL_SERVER_ERROR, "the server erred; its log says how")
    if not gone:
        request.setHeader("content-length", str(len(text)))
        request.write(text)
        request.finish()


def _host(address: Any) -> str:
    """Whoever may open a socket in a folder is of this machine."""
    return "127.0.0.1" if isinstance(address, UNIXAddress) else getattr(address, "host", "")


def _tell_nothing(request: Any) -> bytes:
    return _plain(request, http.NOT_FOUND, "there are /metrics, /livez and /readyz")


def _tell_state(health: Stands, request: Any) -> bytes:
    return _plain(request, 200 if health.state is ServerState.READY else 503, health.state.value)


def _headers(request: Any) -> dict[str, str]:
    found = request.requestHeaders.getAllRawHeaders()
    return {name.decode("latin-1").lower(): values[-1].decode("latin-1") for name, values in found if values}


def _plain(request: Any, status: int, text: str) -> bytes:
    request.setResponseCode(status)
    request.setHeader("content-type", "text/plain; charset=utf-8")
    return f"{text}\n".encode()
