"""A backend as it stands: its messages through a real broker, its webhooks on a real port."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from config.settings import DEMO_MODEL
from tests.integration.test_rabbitmq import serving
from tests.rabbitmq import RabbitNode
from tests.server.scripted import Asked, scripted

TOKEN = "a-token-of-thirty-two-characters"


def message(generation: int, style: int = 1, task: str = "", **more: Any) -> dict[str, Any]:
    """One of today's form."""
    data = {
        "generation_id": generation, "style_id": style, "lora_path": f"models/style_{style}/lora_weights.safetensors",
        "prompt": "a red star", "aspect_ratio": "1:1", "seed": 7, "signature_path": "", "prompt_tags": ["red", "star"],
        "num_inference_steps": 3,
    }  # fmt: skip
    return {"task_id": task or f"task-{generation}", "type": "image_generation", "data": data, **more}


async def test_each_generation_has_one_end_whatever_is_published(
    reactor: Any, rabbitmq: RabbitNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture, a style that is missing, a message of no known type; each twice, under one task or under two."""
    style = tmp_path / "data" / "artifacts" / "models" / "style_1"
    style.mkdir(parents=True)
    shutil.copy(DEMO_MODEL / "adapters" / "chalk.safetensors", style / "lora_weights.safetensors")
    heard: list[tuple[str, dict[str, Any]]] = []

    async def take(asked: Asked, writer: asyncio.StreamWriter) -> None:
        assert asked.headers["authorization"] == f"Bearer {TOKEN}"
        assert asked.headers["x-request-source"] == "inference-server"
        heard.append((asked.line.split()[1].rpartition("/")[2], json.loads(asked.body)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n" + b'{"success":true}')

    async with scripted(take) as backend:
        url = f"http://127.0.0.1:{backend.port}"
        settings: dict[str, Any] = {"backend_api_url": url, "internal_api_token": TOKEN}
        async with serving(reactor, rabbitmq, tmp_path, monkeypatch, **settings) as server:
            server.post(
                message(1), message(1), message(2, style=9), message(3, type="dance"), message(3, type="dance"),
                message(4, webhook_url=url),
            )  # fmt: skip
            ends = ("complete", "failed")
            await backend.until(lambda: len({told["generation_id"] for call, told in heard if call in ends}) == 4)
            server.post(message(1, task="another"), message(2, style=9, task="yet another"), message(5))
            await backend.until(lambda: any(call in ends and told["generation_id"] == 5 for call, told in heard))
            await server.until((0, 0))
    told = {body["generation_id"]: (call, body) for call, body in heard if call in ends}
    assert Counter(body["generation_id"] for call, body in heard if call in ends) == dict.fromkeys(range(1, 6), 1)
    assert [told[number][0] for number in range(1, 6)] == ["complete", "failed", "failed", "complete", "complete"]
    assert told[1][1]["metadata"]["seed"] == 7
    assert told[1][1]["metadata"]["prompt_tags"] == ["red", "star"]
    assert told[1][1]["result_url"].endswith("generations/gen-1.png")
    assert told[2][1]["error_code"] == told[3][1]["error_code"] == "GENERATION_FAILED"
    progress = [body for call, body in heard if call == "progress" and body["generation_id"] == 5]
    assert progress[0]["progress"]["progress_percent"] == 0
