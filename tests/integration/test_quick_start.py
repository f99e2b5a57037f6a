"""The prediction platform's own quick start, on a server that has its .env and nothing else: register, token, model, predict,
poll, cancel, delete."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx

from tests.integration.served import LISTEN, start
from tests.integration.test_models import INPUT, a_copy

ENV = """\
API_HOST=127.0.0.1
API_PORT=0
DATABASE_URL=sqlite:///{folder}/platform.db
REDIS_HOST=127.0.0.1
REDIS_PORT=1
SECRET_KEY=a-secret-key-of-the-platform-0123456789
ENABLE_GPU=false
STORAGE_TYPE=local
MODEL_CACHE_DIR={folder}/models
"""


async def _address(process: asyncio.subprocess.Process) -> str:
    """Where its HTTP door is, as it says itself."""
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        if found := re.search(r"http://\S+", line):
            return found[0]
    raise AssertionError("it has ended")


async def test_the_quick_start_runs_as_written(tmp_path: Path) -> None:
    """With its names in .env alone; nothing of it is ours but where TCP listens."""
    await asyncio.to_thread((tmp_path / ".env").write_text, ENV.format(folder=tmp_path))
    await asyncio.to_thread(a_copy, tmp_path, "fox")
    process = await start(tmp_path, ATELIER_TCP_LISTEN=LISTEN["ATELIER_TCP_LISTEN"])
    try:
        base = await asyncio.wait_for(_address(process), 30)
        async with httpx.AsyncClient(base_url=base, timeout=60) as client:
            await _log_in(client)
            model = await _make_model(client)
            await _predict(client, model)
            await _cancel(client, model)
            assert (await client.delete(f"/v1/models/{model}")).status_code == 204
            assert (await client.get(f"/v1/models/{model}")).status_code == 404
    finally:
        process.terminate()
        await asyncio.wait_for(process.communicate(), 60)


async def _log_in(client: httpx.AsyncClient) -> None:
    """An account, and a token by the form that OAuth's clients send."""
    account = {"username": "ada", "email": "ada@example.org", "password": "a fox and 7 hens"}
    made = await client.post("/v1/auth/register", json=account)
    assert made.status_code in (200, 201), made.text
    assert {"id", "username", "email", "is_active", "created_at"} <= set(made.json())
    assert (await client.post("/v1/auth/register", json=account)).status_code == 400
    form = {"username": "ada", "password": account["password"]}
    token = (await client.post("/v1/auth/token", data=form)).json()
    assert token["token_type"] == "bearer"
    client.headers["Authorization"] = f"Bearer {token['access_token']}"


async def _make_model(client: httpx.AsyncClient) -> str:
    """Its id, once it is no longer being looked at."""
    wish = {
        "name": "fox",
        "description": "foxes",
        "model_type": "text-to-image",
        "version": "1.0.0",
        "model_path": "fox",
        "input_schema": {
            "prompt": {"type": "string", "description": "What is to be seen"},
            "num_inference_steps": {"type": "integer", "description": "", "default": 2, "minimum": 1, "maximum": 90},
        },
        "hardware": "cpu",
    }
    made = await client.post("/v1/models", json=wish)
    assert made.status_code == 201, made.text
    told = made.json()
    assert {
        name: told[name] for name in ("name", "description", "model_type", "version", "model_path", "hardware")
    } == {name: wish[name] for name in ("name", "description", "model_type", "version", "model_path", "hardware")}
    assert {"id", "created_at", "updated_at", "owner_id"} <= set(told)
    while (await _get(client, f"/v1/models/{told['id']}"))["state"] in ("checking", "loading"):  # noqa: ASYNC110  # nothing tells
        await asyncio.sleep(0.05)
    assert (await _get(client, "/v1/models?skip=1&limit=10"))["models"][-1]["id"] == told["id"]
    return str(told["id"])


async def _predict(client: httpx.AsyncClient, model: str) -> None:
    """Asked for, polled until it has succeeded; its picture is there."""
    asked = {"model_id": model, "input": {"prompt": INPUT["prompt"]}}
    made = await client.post("/v1/predictions", json=asked)
    assert made.status_code == 201, made.text
    done = await _ended(client, made.json()["id"])
    assert (done["status"], done["model_id"], done["progress"]) == ("succeeded", model, 1.0)
    assert done["input"]["num_inference_steps"] == 2
    assert (await client.get(done["output"][0])).content.startswith(b"\x89PNG")
    assert [one["id"] for one in (await _get(client, "/v1/predictions?skip=0&limit=5"))["predictions"]] == [done["id"]]


async def _cancel(client: httpx.AsyncClient, model: str) -> None:
    """One that takes its time."""
    asked = {"model_id": model, "input": {"prompt": "a star", "num_inference_steps": 90, "num_outputs": 4}}
    made = (await client.post("/v1/predictions", json=asked)).json()
    canceled = (await client.post(f"/v1/predictions/{made['id']}/cancel")).json()
    assert canceled["status"] == "canceled", canceled
    assert (await _ended(client, made["id"]))["status"] == "canceled"


async def _ended(client: httpx.AsyncClient, prediction: str) -> dict[str, Any]:
    """Polled, as the quick start does."""
    while True:
        told = await _get(client, f"/v1/predictions/{prediction}")
        if told["status"] not in ("starting", "processing"):
            return told
        await asyncio.sleep(0.05)


async def _get(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    found: dict[str, Any] = (await client.get(path)).json()
    return found
