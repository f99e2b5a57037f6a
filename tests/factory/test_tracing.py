"""Traces of a whole server, received by a collector that reads OTLP's protobuf."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import factory.tracing
from config import Settings, SettingsError, load_settings
from factory import service as built
from factory.service import AtelierService, make_service
from factory.tracing import NoTracing, read_headers, tracing
from tests.integration.raw_client import RawClient
from tests.quick_painter import QuickPainter
from tests.server.tracing.collector import Collector, collecting

HERE = "tcp:0:interface=127.0.0.1"
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SECRET = "a-collectors-token"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an engine that needs no model, and little patience with a collector that does not answer."""
    monkeypatch.setattr(built, "EngineThreads", QuickPainter)
    monkeypatch.setattr(factory.tracing, "FLUSH", 1.0)


@pytest.fixture
def collector() -> Iterator[Collector]:
    """One that listens."""
    with collecting() as there:
        yield there


def settings(folder: Path, **given: Any) -> Settings:
    """Of a server on free ports."""
    return load_settings(**{"data_dir": folder, "tcp_listen": HERE, "http_listen": HERE, **given})


@asynccontextmanager
async def running(reactor: Any, given: Settings) -> AsyncIterator[AtelierService]:
    """A server that runs."""
    service = make_service(given, reactor)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def painted(service: AtelierService) -> str:
    """A job's id, by TCP."""
    _, host, port = service.addresses[0].split(":")
    client = await RawClient.connect((host, int(port)))
    heard = await client.hear_all(client.submit("SECRET star", seed=1, width=64, height=64))
    await client.close()
    assert heard[-1].kind == "result"
    result: Any = heard[-1].message
    return str(result.job_id)


async def test_a_job_s_way_arrives_as_a_tree(reactor: Any, tmp_path: Path, collector: Collector) -> None:
    """By its end the server has sent what there was; the collector's token went along."""
    given = settings(tmp_path, otlp_endpoint=collector.url, otlp_headers=f"authorization=Bearer%20{SECRET}")
    async with running(reactor, given) as service:
        job_id = await painted(service)
    root = collector.of("job")
    assert (root.trace, root.parent) == (job_id, "")
    assert collector.tree(root) == {"job": ["admit", "queue", "paint", "finish"], "finish": ["store"]}
    parts = [collector.of(name) for name in ("admit", "queue", "paint", "finish")]
    assert all(one.ended == other.began for one, other in pairwise(parts))
    assert root.began <= parts[0].began
    assert parts[-1].ended <= root.ended
    assert root.attributes["atelier.door"] == "tcp"
    assert root.resource["service.name"] == "atelier"
    assert "first step" in collector.of("paint").events
    assert {headers["authorization"] for headers in collector.headers} == {f"Bearer {SECRET}"}
    assert "SECRET star" not in str(collector.spans)


async def test_an_http_caller_s_trace_is_gone_on_with(reactor: Any, tmp_path: Path, collector: Collector) -> None:
    """By its traceparent."""
    async with running(reactor, settings(tmp_path, otlp_endpoint=collector.url)) as service:
        (door,) = [address for address in service.addresses if address.startswith("http:")]
        body = json.dumps({"prompt": "a star", "width": 64, "height": 64}).encode()
        headers = {"content-type": "application/json", "traceparent": CALLER}
        asked = urllib.request.Request(f"{door}/v1/jobs", body, headers)
        await asyncio.to_thread(lambda: urllib.request.urlopen(asked, timeout=60).read())
    root = collector.of("job")
    assert (root.trace, root.parent) == (CALLER.split("-")[1], CALLER.split("-")[2])
    assert root.attributes["atelier.door"] == "http"


async def test_a_collector_that_is_away_costs_its_spans_and_no_job(reactor: Any, tmp_path: Path) -> None:
    """Nobody listens at port 9."""
    async with running(reactor, settings(tmp_path, otlp_endpoint="http://127.0.0.1:9")) as service:
        await painted(service)


async def test_a_collector_that_hangs_holds_up_a_stop_so_long_and_no_longer(
    reactor: Any, tmp_path: Path, collector: Collector
) -> None:
    """What it did not take is lost."""
    collector.open.clear()
    async with running(reactor, settings(tmp_path, otlp_endpoint=collector.url)) as service:
        await painted(service)
        began = time.monotonic()
    assert 1.0 <= time.monotonic() - began < 10


def test_without_the_setting_nothing_is_put_around_anything(reactor: Any, tmp_path: Path) -> None:
    """Everything is as it is."""
    off = tracing(settings(tmp_path), reactor)
    assert isinstance(off, NoTracing)
    given: Any = object()
    assert all(same(given) is given for same in (off.sender, off.claims, off.leases))
    assert off.observers() == []


def test_headers_are_read_as_the_standard_has_them() -> None:
    """Names and percent-encoded values."""
    assert read_headers("Authorization=Bearer%20x, tenant = a%2Cb ,") == {"authorization": "Bearer x", "tenant": "a,b"}
    assert read_headers("") == {}


@pytest.mark.parametrize("url", ["collector:4317", "grpc://collector:4317", "http://user:password@collector"])
def test_an_endpoint_that_is_no_http_address_stops_the_start(tmp_path: Path, url: str) -> None:
    """With the variable's name."""
    with pytest.raises(SettingsError, match="OTLP_ENDPOINT"):
        settings(tmp_path, otlp_endpoint=url)
