"""The same asked again, on a whole server that answers as before: over HTTP and TCP, in the bill, after the
cleaning, after a restart. The painter is a quick one; everything else is real.
"""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image
from pydantic import SecretStr

from config import load_settings
from factory import service as building
from factory.service import AtelierService, make_service
from tests.integration.conftest import address_of
from tests.integration.raw_client import RawClient
from tests.quick_painter import QuickPainter

TOKEN, OTHER = "ada-token-0123456789", "bob-token-0123456789"
ASKED: dict[str, Any] = {"prompt": "a star", "width": 64, "height": 64, "num_inference_steps": 3, "seed": 9}
Serve = Callable[..., Any]


@pytest.fixture
def serve(reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """`async with serve(name=value) as service`; always on the same folder."""

    @asynccontextmanager
    async def serving(**more: Any) -> AsyncIterator[AtelierService]:
        monkeypatch.setattr(building, "EngineThreads", QuickPainter)
        given = {
            "tcp_listen": "tcp:0:interface=127.0.0.1", "http_listen": "tcp:0:interface=127.0.0.1",
            "data_dir": tmp_path / "data", "tokens": {"ada": SecretStr(TOKEN), "bob": SecretStr(OTHER)},
            "cache_seconds": 3600.0, "price_picture": 2.0, **more,
        }  # fmt: skip
        service = make_service(load_settings(**given), reactor)
        await service.start()
        try:
            yield service
        finally:
            await service.stop()

    return serving


def web_of(service: AtelierService, token: str = TOKEN) -> httpx.AsyncClient:
    """A client of its HTTP door."""
    return httpx.AsyncClient(base_url=service.addresses[1], headers={"Authorization": f"Bearer {token}"}, timeout=30)


async def asked(web: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    """A job that has ended."""
    accepted = (await web.post("/v1/jobs", json={**ASKED, **more})).json()
    await web.get(f"/v1/jobs/{accepted['id']}/events")  # to their end
    job: dict[str, Any] = (await web.get(f"/v1/jobs/{accepted['id']}")).json()
    assert job["state"] == "succeeded", job
    return job


async def picture_of(web: httpx.AsyncClient, job: dict[str, Any]) -> Image.Image:
    """Its first picture."""
    return Image.open(io.BytesIO((await web.get(job["artifacts"][0]["url"])).content))


async def test_it_is_told_so_at_each_door_and_costs_nothing(serve: Serve) -> None:
    """The pictures are its own, whichever door it came by; usage tells how many were answered so."""
    async with serve() as service, web_of(service) as web, web_of(service, OTHER) as other:
        first = await asked(web)
        second = await asked(web)
        assert (first["figures"], second["figures"]) == ({}, {"cached": 1.0})
        before, now = await picture_of(web, first), await picture_of(web, second)
        assert (now.tobytes(), now.info["job_id"]) == (before.tobytes(), second["id"])
        assert (await asked(other))["figures"] == {}, "another owner's is painted"
        tcp = await RawClient.connect(address_of(service), TOKEN)
        result: Any = (await tcp.hear_all(tcp.submit(**ASKED)))[-1].message
        assert dict(result.figures) == {"cached": 1.0}
        assert result.artifacts[0].key.endswith(f"/{result.job_id}-0.png")
        await tcp.close()
        signed = await asked(web, signature={"text": "Ada"})
        assert signed["figures"] == {}
        (line,) = (await web.get("/v1/usage?by=model")).json()["items"]
        told = {name: line[name] for name in ("jobs", "succeeded", "cached", "pictures", "price")}
        assert told == {"jobs": 4, "succeeded": 4, "cached": 2, "pictures": 2, "price": 4.0}
        figures = (await web.get("/v1/models/demo/metrics")).json()
        assert (figures["jobs"], figures["cached"]) == (4, 2)
        metrics = (await web.get("/metrics")).text
        assert 'atelier_jobs_cached_total{model="demo"} 2.0' in metrics


async def test_it_outlives_the_server_but_not_the_pictures(serve: Serve) -> None:
    """Found in the next life; where the cleaning has taken the job, it is painted anew."""
    async with serve() as service, web_of(service) as web:
        await asked(web)
    async with serve(keep_finished_jobs=1) as service, web_of(service) as web:
        assert (await asked(web))["figures"] == {"cached": 1.0}
        assert await service._jobs.cleaning.clean() == 1
        assert (await asked(web))["figures"] == {}
