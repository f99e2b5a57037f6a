"""A limit that is set in .env, at each door of a whole server. The engine alone is tests.quick_painter's."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from config import load_settings
from factory import service as building
from factory.service import make_service
from server.job import JobState
from tests.integration.conftest import address_of
from tests.integration.raw_client import RawClient
from tests.integration.test_rabbitmq import DEAD, QUEUE, Server, order
from tests.quick_painter import QuickPainter
from tests.rabbitmq import PASSWORD, USER, RabbitNode
from tests.redis_server import RedisServer

TOKEN = "backend-token-0123456789"
ASKED: dict[str, Any] = {"prompt": "a star", "width": 64, "height": 64, "num_inference_steps": 3}
Serve = Callable[..., Any]


@pytest.fixture
def serve(
    reactor: Any, rabbitmq: RabbitNode, redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Serve:
    """`async with serve("ATELIER_RATE_REQUESTS=…") as server`: these lines are its .env. Redis counts."""

    @asynccontextmanager
    async def serving(*lines: str) -> AsyncIterator[Server]:
        (tmp_path / ".env").write_text("\n".join(lines))
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(building, "EngineThreads", QuickPainter)
        given = {
            "tcp_listen": "tcp:0:interface=127.0.0.1", "http_listen": "tcp:0:interface=127.0.0.1", "data_dir": tmp_path / "data",
            "rabbitmq_host": "127.0.0.1", "rabbitmq_port": rabbitmq.port, "rabbitmq_user": USER, "rabbitmq_pass": PASSWORD,
            "limits_url": redis.url, "tokens": {"backend": SecretStr(TOKEN)},
        }  # fmt: skip
        service = make_service(load_settings(**given), reactor)
        await service.start()
        try:
            yield Server(service, rabbitmq)
        finally:
            await service.stop()
            rabbitmq.empty()
            redis.ask("FLUSHALL")

    return serving


def web_of(server: Server) -> httpx.AsyncClient:
    """A client of its HTTP door."""
    return httpx.AsyncClient(base_url=server.service.addresses[1], headers={"Authorization": f"Bearer {TOKEN}"})


async def test_a_limit_of_env_is_seen_at_every_door(serve: Serve) -> None:
    """What one owner asks for by TCP, HTTP and RabbitMQ adds up. TCP and HTTP say when to come again; a message waits."""
    async with serve("ATELIER_RATE_REQUESTS=3/hour", "ATELIER_RETRY_DELAYS=0,2") as server, web_of(server) as web:
        tcp = await RawClient.connect(address_of(server.service), TOKEN)
        assert (await tcp.hear_all(tcp.submit(**ASKED)))[-1].kind == "result"
        accepted = await web.post("/v1/jobs", json=ASKED)
        assert (accepted.status_code, accepted.headers["ratelimit-policy"]) == (202, '"requests";q=3;w=3600')
        assert accepted.headers["x-ratelimit-remaining"] == "1"
        server.post(order("first"))
        assert await server.ended("first") == [JobState.SUCCEEDED]

        (error,) = await tcp.hear_all(tcp.submit(**ASKED))
        told: Any = error.message
        assert (error.kind, told.code, told.limit) == ("error", 10124, "3 jobs an hour")
        assert 3500 < told.retry_after_seconds <= 3600
        refused = await web.post("/v1/jobs", json=ASKED)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "RESOURCE_EXHAUSTED")
        assert 3500 < int(refused.headers["retry-after"]) <= 3600
        assert (refused.headers["x-ratelimit-remaining"], refused.headers["ratelimit"][:15]) == ("0", '"requests";r=0;')
        server.post(order("second"))
        await server.until((1, 0), f"{QUEUE}.delay.2000")
        assert await server.service._records.store.find("backend", "second") is None
        assert await server.counts(DEAD) == (0, 0)
        metrics = (await web.get("/metrics")).text
        reached = re.search(r'atelier_limit_refusals_total{limit="requests"} (\d+)', metrics)
        assert reached is not None
        assert int(reached[1]) >= 3, "one at each door; the message may have come again"
        assert 'atelier_http_refusals_total{code="RESOURCE_EXHAUSTED"} 1.0' in metrics
        await tcp.close()


async def test_messages_beyond_a_limit_are_painted_when_there_is_room(serve: Serve) -> None:
    """None is lost, and none refused."""
    async with serve("ATELIER_RATE_REQUESTS=2/second", "ATELIER_RETRY_DELAYS=0,1") as server:
        keys = [f"order-{number}" for number in range(6)]
        server.post(*map(order, keys))
        assert await server.ended(*keys) == [JobState.SUCCEEDED] * 6
        await server.until((0, 0))
        assert await server.counts(DEAD) == (0, 0)


async def test_cost_is_counted_for_what_is_asked(serve: Serve) -> None:
    """Three steps of 64 × 64 cost 0.0123; more than a whole window's is a bad request, also in a queue."""
    async with serve("ATELIER_RATE_COST=1/hour") as server, web_of(server) as web:
        accepted = await web.post("/v1/jobs", json={**ASKED, "width": 512, "height": 512})
        assert accepted.headers["ratelimit"].startswith('"cost";r=0;')
        refused = await web.post("/v1/jobs", json={**ASKED, "width": 512, "height": 512})
        assert (refused.status_code, refused.json()["error"]["details"]["limit"]) == (429, "1 of cost an hour")
        bad = await web.post("/v1/jobs", json={**ASKED, "width": 1024, "height": 1024})
        assert (bad.status_code, bad.json()["error"]["details"]["field"]) == (422, "cost")
        server.post(order("huge", width=1024, height=1024))
        ((code, field, _),) = await server.dead(1)
        assert (code, field) == ("INVALID_PARAMETER", "cost")
