"""The SDXL dialect with the real engine: the contract's requests as a front end sends them, with the profile made for it."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

from config import load_settings
from factory.service import make_service
from tests.ai import oracle
from tests.ai.drive import a_request
from tests.ai.test_refiner import chained
from tests.ai.tiny_xl import build_base, build_refiner, build_single_file

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

META = [
    "id", "created_at", "model_id", "prompt", "negative_prompt", "width", "height", "steps", "guidance_scale", "seed", "device",
    "refiner_used", "refiner_strength", "image_file", "meta_file",
]  # fmt: skip


def call(url: str, body: bytes | None = None, kind: str = "application/json") -> tuple[int, bytes]:
    """What a front end without a token hears, from a page of its own."""
    request = Request(url, body, {"content-type": kind, "origin": "https://front.example"})
    try:
        with urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as refused:
        with refused:
            return refused.code, refused.read()


async def told(url: str, body: bytes | None = None, kind: str = "application/json") -> Any:
    """The JSON of an answer that is none of a refusal."""
    status, said = await asyncio.to_thread(call, url, body, kind)
    assert status == 200, said
    return json.loads(said)


async def picture(url: str) -> Any:
    """Its pixels."""
    status, said = await asyncio.to_thread(call, url)
    assert status == 200
    return np.asarray(Image.open(io.BytesIO(said))).astype(int)


@asynccontextmanager
async def serving(reactor: Any, folder: Path, **settings: Any) -> AsyncIterator[str]:
    """A server with the profile; gives its address."""
    service = make_service(
        load_settings(
            tcp_listen="tcp:0:interface=127.0.0.1",
            http_port=0,
            profile="sdxl-api",
            data_dir=folder / "data",
            **settings,
        ),
        reactor,
    )
    await service.start()
    try:
        yield service.addresses[1]
    finally:
        await service.stop()


def form(png: bytes, **texts: object) -> tuple[bytes, str]:
    """A body, and its type."""
    parts = [f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in texts.items()]
    file = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    return "".join(parts).encode() + file + png + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"


async def test_a_front_end_s_requests_are_painted_as_they_stand(reactor: Any, tmp_path: Path) -> None:
    """Every field of generate and img2img; picture and meta under /outputs; health beside; a deadline that is too short."""
    async with serving(reactor, tmp_path) as base:
        assert (await told(f"{base}/"))["status"] == "running"
        asked = {
            "prompt": "a big green tree on a pink background", "negative_prompt": "blue", "width": 128, "height": 128, "steps": 8,
            "guidance_scale": 4.0, "seed": 7, "use_refiner": False, "refiner_strength": 0.3,
        }  # fmt: skip
        painting = asyncio.ensure_future(told(f"{base}/api/v1/generate", json.dumps(asked).encode()))
        assert set(await told(f"{base}/health")) == {"status", "cuda_available", "cuda_device"}
        answer = await painting
        meta = answer["meta"]
        assert list(meta) == META
        wanted = {**asked, "refiner_strength": 0.0}  # there is none
        del wanted["use_refiner"]
        assert {name: meta[name] for name in wanted} == wanted
        assert (len(meta["id"]), int(meta["id"], 16) >= 0, meta["model_id"], meta["device"]) == (
            32,
            True,
            "demo",
            "cpu",
        )
        assert await told(base + answer["meta_url"]) == meta
        first = await picture(base + answer["image_url"])
        assert first.shape == (128, 128, 3)
        png = (await asyncio.to_thread(call, base + answer["image_url"]))[1]
        again = await told(f"{base}/api/v1/img2img", *form(png, prompt="a big red tree", steps=8, strength=0.5, seed=7))
        assert list(again["meta"]) == [*META, "strength"]
        assert (again["meta"]["width"], again["meta"]["strength"]) == (128, 0.5)
        assert 0 < np.abs(await picture(base + again["image_url"]) - first).mean() < 100
        status, said = await asyncio.to_thread(call, f"{base}/api/v1/generate", b'{"prompt": "x", "steps": 51}')
        assert (status, json.loads(said)["error"]["details"]) == (422, {"field": "steps", "limit": "1 to 50"})


async def test_a_generation_that_takes_too_long_is_a_504(reactor: Any, tmp_path: Path) -> None:
    """With its code, and the server goes on painting for others."""
    async with serving(reactor, tmp_path, generation_timeout=0.05) as base:
        status, said = await asyncio.to_thread(call, f"{base}/api/v1/generate", b'{"prompt": "a tree", "steps": 50}')
        assert (status, json.loads(said)["error"]["code"]) == (504, "DEADLINE_EXCEEDED")


async def test_the_files_of_an_sdxl_server_are_found_and_refined_as_asked(
    reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Base model, refiner and VAE as single files in ./model; with the refiner and without: as diffusers paints them."""
    base_folder, refiner_folder = build_base(tmp_path / "base"), build_refiner(tmp_path / "refiner")
    model = tmp_path / "model"
    model.mkdir()
    build_single_file(base_folder, model / "sd_xl_base_1.0.safetensors")
    build_single_file(refiner_folder, model / "sd_xl_refiner_1.0.safetensors")
    shutil.copy(base_folder / "vae" / "diffusion_pytorch_model.safetensors", model / "sdxl.vae.safetensors")
    monkeypatch.chdir(tmp_path)
    asked: dict[str, Any] = {"prompt": "a red cat", "width": 64, "height": 64, "steps": 6, "guidance_scale": 4.0}
    async with serving(reactor, tmp_path, dtype="float32") as base:
        answers = [
            await told(f"{base}/api/v1/generate", json.dumps({**asked, **wish}).encode())
            for wish in ({"seed": 7, "refiner_strength": 0.5}, {"seed": 8}, {"seed": 9, "use_refiner": False})
        ]
        refined = [(one["meta"]["refiner_used"], one["meta"]["refiner_strength"]) for one in answers]
        assert refined == [(True, 0.5), (True, 0.3), (False, 0.0)]
        assert answers[0]["meta"]["model_id"] == "model"
        pictures = [await picture(base + one["image_url"]) for one in answers]
    requests = [a_request(num_inference_steps=6, seed=seed, solver="dpmpp_2m_karras") for seed in (7, 8, 9)]
    wanted = [
        chained(base_folder, refiner_folder, requests[0], "pil", 0.5),
        chained(base_folder, refiner_folder, requests[1], "pil", 0.7),
        oracle.paint(base_folder, requests[2], 0, "pil"),
    ]
    for painted, one in zip(pictures, wanted, strict=True):
        assert np.abs(painted - np.asarray(one).astype(int)).max() <= 1
