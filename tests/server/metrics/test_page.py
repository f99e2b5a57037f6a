"""The metrics' own port, on real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

from prometheus_client.metrics_core import Metric
from pydantic import SecretStr
from structlog.testing import capture_logs

from ai.types import ModelReady
from server.futures import as_future
from server.health import Health
from server.metrics.access import Access
from server.metrics.page import metrics_site
from server.metrics.registry import Metrics, gauge
from tests.server.fakes import CARD
from tests.server.metrics.scrape import samples, some_metrics

TOKEN = "a-token-of-operators"


class Scene:
    """An open port."""

    def __init__(self, port: int, metrics: Metrics, health: Health) -> None:
        self.port = port
        self.metrics = metrics
        self.health = health

    async def said(self, request: str) -> tuple[int, str, str]:
        """Status, headers and body of the answer to raw bytes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request.encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition("\r\n\r\n")
        return int(head.split()[1]) if head else 0, head.lower(), body

    async def get(self, path: str, *headers: str) -> tuple[int, str, str]:
        """An answer to a GET."""
        return await self.said(
            "\r\n".join([f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers, "", ""])
        )


@asynccontextmanager
async def a_page(reactor: Any, token: str = "") -> AsyncIterator[Scene]:
    """A page on a free port."""
    metrics, health = some_metrics(), Health([CARD])
    port = reactor.listenTCP(0, metrics_site(metrics, Access(SecretStr(token)), health), interface="127.0.0.1")
    try:
        yield Scene(port.getHost().port, metrics, health)
    finally:
        await as_future(port.stopListening())


async def test_the_metrics_are_there(reactor: Any) -> None:
    """As Prometheus takes them."""
    async with a_page(reactor) as page:
        status, head, body = await page.get("/metrics")
        assert (status, "text/plain; version=" in head) == (200, True)
        assert samples(body)["process_open_fds"] > 0
        status, head, _ = await page.get("/metrics", "Accept: application/openmetrics-text; version=1.0.0")
        assert (status, "application/openmetrics-text" in head) == (200, True)


async def test_who_may_not_read_them_is_told_why(reactor: Any) -> None:
    """401 asks for a token, 403 says that none would help."""
    async with a_page(reactor, TOKEN) as page:
        status, head, body = await page.get("/metrics")
        assert (status, "www-authenticate: bearer" in head) == (401, True)
        assert "ATELIER_METRICS_TOKEN" in body
        assert (await page.get("/metrics", f"Authorization: Bearer {TOKEN}"))[0] == 200
    async with a_page(reactor) as page:
        assert (await page.get("/metrics", "X-Forwarded-For: 192.0.2.1"))[0] == 403


async def test_whether_the_node_lives_and_is_ready_is_anybody_s_to_ask(reactor: Any) -> None:
    """Not ready while the model loads, ready then, and not while it stops."""
    async with a_page(reactor, TOKEN) as page:
        assert (await page.get("/livez"))[::2] == (200, "ok\n")
        assert (await page.get("/readyz"))[::2] == (503, "loading\n")
        page.health.engine_events([ModelReady("demo", 1.0)])
        assert (await page.get("/readyz"))[::2] == (200, "ready\n")
        page.health.drain()
        assert (await page.get("/readyz"))[::2] == (503, "draining\n")


async def test_nothing_else_is_answered(reactor: Any) -> None:
    """No other path, no other method, no body."""
    async with a_page(reactor) as page:
        assert (await page.get("/"))[0] == 404
        assert (
            await page.said(
                "POST /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
        )[0] == 405
        sent = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\n" + "x" * 1000
        assert await _cut_off(page, sent)


async def _cut_off(page: Scene, request: str) -> bool:
    try:
        return (await page.said(request))[0] == 0
    except ConnectionResetError:
        return True


async def test_a_reading_that_breaks_is_an_error_and_the_next_may_go_well(reactor: Any) -> None:
    """The reason is in the log, not in the answer."""
    broken: list[Callable[[], Iterable[Metric]]] = [lambda: [gauge("atelier_x", "X.", [])]]
    async with a_page(reactor) as page:
        page.metrics.add(lambda: broken[0]())
        whole = broken[0]
        broken[0] = lambda: [1 / 0]  # type: ignore[list-item]
        with capture_logs() as logged:
            status, _, body = await page.get("/metrics")
        assert (status, "ZeroDivision" in body) == (500, False)
        assert [line["event"] for line in logged] == ["metrics.broken"]
        broken[0] = whole
        assert (await page.get("/metrics"))[0] == 200
