"""Models registered at one node and used at another: two processes that share a database, a storage and a folder of models."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from config.painting import TEXT_DEMO_MODEL
from tests.integration.eventually import eventually
from tests.integration.served import LISTEN, start
from tests.postgres import PostgresServer

ADA, BOB = "ada-token-0123456789", "bob-token-0123456789"
DATABASE = "nodes_of_models"


@asynccontextmanager
async def node(folder: Path, name: str, database: str) -> AsyncIterator[httpx.AsyncClient]:
    """`atelier serve`, and Ada's client of it."""
    own = folder / name
    own.mkdir()
    process = await start(
        own,
        **{
            **LISTEN,
            "ATELIER_HTTP_LISTEN": "tcp:0:interface=127.0.0.1",
            "ATELIER_TOKENS": f"ada:{ADA},bob:{BOB}",
            "ATELIER_MODELS": f"words={TEXT_DEMO_MODEL}",
            "ATELIER_MODEL_ROOTS": str(folder / "models"),
            "ATELIER_STORAGE_URL": f"file://{folder}/pictures",
            "ATELIER_CATALOGUE_REFRESH": "0.2",
            "DATABASE_URL": database,
        },
    )
    assert process.stdout is not None
    assert process.stderr is not None
    log = asyncio.ensure_future(process.stderr.read())
    try:
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        assert lines[1], (await log).decode()
        base = lines[1].strip().rpartition(" ")[2]
        async with httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {ADA}"}, timeout=60) as client:
            yield client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
        await log


async def written(client: httpx.AsyncClient, model: str) -> dict[str, Any]:
    """A prediction at its end, asked for again where the node says that it cannot take it yet."""
    asked = {"model": model, "input": {"prompt": "a big", "seed": 3}}

    async def answered() -> httpx.Response | None:
        answer = await client.post("/v1/predictions", json=asked, headers={"Prefer": "wait=60"})
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            assert answer.json()["error"]["code"] == "UNAVAILABLE", answer.text
            assert "Retry-After" in answer.headers
            return None
        return answer

    answer = await eventually(answered)
    assert answer.is_success, answer.text
    told: dict[str, Any] = answer.json()
    return told


async def test_a_model_is_used_at_another_node_at_once_and_gone_from_all(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    """Registered at the first, predicted at the second as soon as that has it; a version of the second is chosen at the first;
    deleted at the first it is nobody's at the second."""
    postgres.sql(f"CREATE DATABASE {DATABASE}")
    for version in ("poet", "poet-2"):
        shutil.copytree(TEXT_DEMO_MODEL, tmp_path / "models" / version)
    async with AsyncExitStack() as stack:
        first, second = [
            await stack.enter_async_context(node(tmp_path, name, postgres.url(DATABASE))) for name in ("one", "two")
        ]
        wish = {"name": "poet", "model_type": "text-generation", "model_path": "poet"}
        made = (await first.post("/v1/models", json=wish)).json()

        async def ready(client: httpx.AsyncClient, version: str) -> dict[str, Any] | None:
            told: dict[str, Any] = (await client.get(f"/v1/models/{made['id']}")).json()
            states = {one["version"]: one["state"] for one in told.get("versions", ())}
            assert states.get(version) != "refused", told
            return told if states.get(version) in ("on_disk", "ready", "unavailable") else None

        await eventually(lambda: ready(first, "1.0.0"))
        there, own = await written(second, "ada/poet"), await written(second, "words")
        assert there["status"] == own["status"] == "succeeded", there
        assert there["output"] == own["output"], "the same weights write the same"
        assert there["model"] == "ada/poet"
        assert (await first.get(f"/v1/predictions/{there['id']}")).json()["output"] == there["output"]
        stranger = {"Authorization": f"Bearer {BOB}"}
        assert (await second.get(f"/v1/models/{made['id']}", headers=stranger)).status_code == 404

        wish |= {"version": "2.0.0", "model_path": "poet-2", "name": "poet"}
        assert (await second.post("/v1/models", json=wish)).status_code == 201
        await eventually(lambda: ready(second, "2.0.0"))
        assert (await second.post(f"/v1/models/{made['id']}/promote", json={"version": "2.0.0"})).is_success

        async def promoted() -> bool | None:
            told = await written(first, "ada/poet")
            return (told["status"] == "succeeded" and told["version"] != there["version"]) or None

        await eventually(promoted)
        assert (await first.delete(f"/v1/models/{made['id']}")).is_success

        async def gone() -> bool | None:
            answer = await second.post("/v1/predictions", json={"model": "ada/poet", "input": {}})
            return answer.status_code == 404 or None

        await eventually(gone)
        assert (await written(second, "words"))["status"] == "succeeded"
