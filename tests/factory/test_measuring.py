"""The metrics of a whole server: scraped from it while it paints."""

from __future__ import annotations

import asyncio
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from config import Settings, SettingsError, load_settings
from factory import service as built
from factory.service import AtelierService, make_service
from tests.deploy.promtool import promtool
from tests.integration.raw_client import RawClient
from tests.quick_painter import QuickPainter
from tests.server.metrics.scrape import samples

TOKEN = "a-token-of-operators"
HERE = "tcp:0:interface=127.0.0.1"


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """With an engine that needs no model."""
    monkeypatch.setattr(built, "EngineThreads", QuickPainter)


def settings(folder: Path, **given: Any) -> Settings:
    """Of a server on free ports."""
    return load_settings(
        **{"data_dir": folder, "tcp_listen": HERE, "http_listen": "off", "metrics_listen": HERE, **given}
    )


@asynccontextmanager
async def running(reactor: Any, given: Settings) -> AsyncIterator[AtelierService]:
    """A server that runs."""
    service = make_service(given, reactor)
    await service.start()
    try:
        yield service
    finally:
        await service.stop()


async def scraped(service: AtelierService, path: str = "/metrics", token: str = "") -> str:
    """What a program gets there."""
    assert service.measuring.address is not None
    host, port = service.measuring.address
    return await fetched(f"http://{host}:{port}{path}", token)


async def fetched(url: str, token: str = "") -> str:
    """What is there."""
    asked = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    return await asyncio.to_thread(lambda: urllib.request.urlopen(asked, timeout=60).read().decode())


async def test_a_server_s_metrics_tell_of_the_job_it_painted(reactor: Any, tmp_path: Path) -> None:
    """By the door, the records, the storage and the engine; promtool finds nothing to complain of."""
    async with running(reactor, settings(tmp_path)) as service:
        _, host, port = service.addresses[0].split(":")
        client = await RawClient.connect((host, int(port)))
        heard = await client.hear_all(client.submit("SECRET star", seed=1, width=64, height=64))
        assert heard[-1].kind == "result"
        await client.close()
        text = await scraped(service)
        found = samples(text)
        assert found['atelier_jobs_accepted_total{model="demo"}'] == 1
        assert found['atelier_jobs_ended_total{code="OK",model="demo",state="succeeded"}'] == 1
        assert found['atelier_job_first_step_seconds_count{model="demo"}'] == 1
        assert found['atelier_storage_operations_total{operation="put",outcome="ok"}'] >= 1
        assert found['atelier_tcp_requests_total{kind="submit"}'] == 1
        assert found['atelier_tcp_bytes_total{direction="in"}'] > 0
        assert found["atelier_records_commit_seconds_count"] >= 3
        assert found['atelier_state{state="ready"}'] == 1
        assert found['atelier_build_info{role="all",version="0.1.0"}'] == 1
        assert found["atelier_records_backlog_age_seconds"] < 60
        assert found["process_resident_memory_bytes"] > 1e6
        assert "SECRET" not in text
        assert await scraped(service, "/readyz") == "ready\n"
    assert check_metrics(text) == (0, "")


async def test_with_a_token_the_metrics_are_for_whoever_has_it(reactor: Any, tmp_path: Path) -> None:
    """Though they ask from this machine."""
    async with running(reactor, settings(tmp_path, metrics_token=TOKEN)) as service:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await scraped(service)
        assert "atelier_state" in await scraped(service, token=TOKEN)


async def test_the_http_door_shows_them_too(reactor: Any, tmp_path: Path) -> None:
    """Without a port of their own, and its own requests among them."""
    async with running(reactor, settings(tmp_path, metrics_listen="", http_listen=HERE)) as service:
        assert service.measuring.address is None
        (door,) = [address for address in service.addresses if address.startswith("http:")]
        for _ in range(2):
            text = await fetched(f"{door}/metrics")
        assert samples(text)['atelier_http_requests_total{method="GET",route="/metrics",status="200"}'] == 1


@pytest.mark.parametrize("where", ["tcp:9100", "tcp:9100:interface=10.0.0.1", "tcp6:9100"])
def test_a_port_that_nobody_could_read_stops_the_start(reactor: Any, tmp_path: Path, where: str) -> None:
    """Other machines need the token."""
    with pytest.raises(SettingsError, match="ATELIER_METRICS_TOKEN"):
        make_service(settings(tmp_path, metrics_listen=where), reactor)
    make_service(settings(tmp_path, metrics_listen=where, metrics_token=TOKEN), reactor)


async def test_a_port_that_is_no_endpoint_stops_the_start(reactor: Any, tmp_path: Path) -> None:
    """With the variable's name."""
    service = make_service(settings(tmp_path, metrics_listen="tcp:nine:interface=127.0.0.1"), reactor)
    with pytest.raises(SettingsError, match="ATELIER_METRICS_LISTEN"):
        await service.start()
    await service.stop()


def check_metrics(text: str) -> tuple[int, str]:
    """The exit status of Prometheus's own checker, and what it said."""
    checked = subprocess.run([promtool(), "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    return checked.returncode, checked.stdout + checked.stderr
