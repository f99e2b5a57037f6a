"""The whole server over HTTP: a real port, the real engine, the embedded model."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from config import load_settings
from factory.service import make_service

TOKEN = "web-token-0123456789"


async def ask(url: str, body: Any = None, token: str = TOKEN) -> tuple[int, bytes]:
    """What a plain client hears."""
    given = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    request = Request(url, None if body is None else json.dumps(body).encode(), given)

    def run() -> tuple[int, bytes]:
        try:
            with urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read()

    return await asyncio.to_thread(run)


async def test_a_job_goes_its_whole_way_over_http(reactor: Any, tmp_path: Path) -> None:
    """Submitted, followed to its end, its picture fetched from the address in the event; then the server stops cleanly."""
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="tcp:0:interface=127.0.0.1",
        tokens=f"web:{TOKEN}",
        data_dir=tmp_path,
    )
    service = make_service(settings, reactor)
    await service.start()
    base = service.addresses[1]
    assert base.startswith("http://127.0.0.1:")
    try:
        assert (await ask(f"{base}/v1/jobs", {"prompt": "x"}, token="wrong"))[0] == 401
        status, body = await ask(f"{base}/v1/jobs", {"prompt": "a big green tree", "seed": 7, "num_inference_steps": 2})
        assert status == 202
        job_id = json.loads(body)["id"]
        status, stream = await ask(f"{base}/v1/jobs/{job_id}/events")
        told = [json.loads(line[6:]) for line in stream.decode().splitlines() if line.startswith("data: ")]
        assert [told[0]["event"], told[-1]["event"]] == ["accepted", "succeeded"]
        (artifact,) = told[-1]["artifacts"]
        assert artifact["url"].startswith(f"{base}/pictures/{job_id}/0.png?expires=")
        assert (await ask(f"{base}/pictures/{job_id}/0.png", token=""))[0] in (401, 404), (
            "an address that is not signed"
        )
        status, png = await ask(artifact["url"], token="")
        assert status == 200
        assert hashlib.sha256(png).hexdigest() == artifact["sha256"]
        assert Image.open(io.BytesIO(png)).size == (artifact["width"], artifact["height"])
        assert json.loads((await ask(f"{base}/v1/jobs/{job_id}"))[1])["state"] == "succeeded"
        assert (await ask(f"{base}/readyz"))[0] == 200
        assert "/v1/jobs" in json.loads((await ask(f"{base}/openapi.json"))[1])["paths"]
    finally:
        await service.stop()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
