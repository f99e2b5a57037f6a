"""Adapters that users upload, on a real server: from the form to a signed picture in that style."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from config.painting import DEMO_MODEL
from proto import atelier_pb2 as pb
from tests.ai.adapters.made import make, save_kohya
from tests.integration.raw_client import RawClient
from tests.integration.test_models import INPUT, Platform, platform
from tests.server.pictures import a_png
from watermark import read_metadata

CHALK = DEMO_MODEL / "adapters" / "chalk.safetensors"


async def upload(there: Platform, path: Path, **texts: str) -> Any:
    """A form, as a browser sends it."""
    files = {"file": (path.name, _read(path))}
    return await there.ada.post("/v1/adapters", data={"name": "ink", **texts}, files=files)


def _read(path: Path) -> bytes:
    return path.read_bytes()


async def test_an_uploaded_adapter_is_worn_at_once_and_signed(reactor: Any, tmp_path: Path) -> None:
    """By its plain name and its full one, on every door, with the same picture as the same file in the model's folder has; every
    picture in that style has its artist's signature; who may not see it cannot wear it."""
    async with platform(reactor, tmp_path) as there:
        answer = await upload(there, CHALK, licence="CC-BY-4.0", description="chalk", base_model="demo")
        assert answer.status_code == 201, answer.text
        told = answer.json()
        assert (told["full_name"], told["base_model"], told["licence"], told["signed"]) == (
            "ada/ink",
            "demo",
            "CC-BY-4.0",
            False,
        )
        assert (await there.ada.get("/v1/adapters/ink")).json() == told
        assert (await there.ada.get("/v1/adapters")).json()["adapters"] == [told]
        worn = await there.painted("demo", adapters=["ink"])
        assert worn["input"]["adapters"] == [{"name": "ada/ink", "scale": 1.0}]
        alike = await there.painted("demo", adapters=["chalk"])
        own, shipped = await there.picture(worn), await there.picture(alike)
        assert own != await there.picture(await there.painted("demo"))
        assert len(own) == len(shipped)
        await check_signature(there)
        await check_others(there, told["id"])
        await check_deleting(there)


async def check_signature(there: Platform) -> None:
    """A picture as the mark, or the artist's name; the artist is in the metadata."""
    form = {"name": "signed", "artist": "Ines Linhart", "signature_size": "small", "base_model": "demo"}
    files = {"file": ("x.safetensors", CHALK.read_bytes()), "signature_image": ("mark.png", a_png(40, 20))}
    made = await there.ada.post("/v1/adapters", data=form, files=files)
    assert made.status_code == 201, made.text
    assert made.json()["signed"] is True
    done = await there.painted("demo", adapters=["ada/signed"])
    png = (await there.ada.get(done["output"][0])).content
    assert read_metadata(png)["artist"] == "Ines Linhart"
    bare = await there.painted("demo", adapters=["ink"])
    assert await there.picture(done) != await there.picture(bare)


async def check_others(there: Platform, adapter_id: str) -> None:
    """Another owner neither sees nor wears nor deletes it, whatever they call it."""
    assert (await there.bob.get(f"/v1/adapters/{adapter_id}")).status_code == 404
    assert (await there.bob.delete(f"/v1/adapters/{adapter_id}")).status_code == 404
    sha = (await there.ada.get("/v1/adapters/ink")).json()["sha256"]
    for name in ("ink", "ada/ink", f"ada/ink:{sha}", f"storage:adapters/ada/ink/{sha}.safetensors"):
        refused = await there.bob.post(
            "/v1/predictions", json={"model": "demo", "input": {**INPUT, "adapters": [name]}}
        )
        assert refused.status_code in (404, 422), (name, refused.text)
    client = await RawClient.connect(there.tcp, "bob-token-0123456789")
    wish = pb.Submit(prompt="x", adapters=[pb.AdapterUse(name="ada/ink")])
    reply: Any = (await client.ask(submit=wish)).message
    assert reply.code == pb.ADAPTER_NOT_FOUND
    await client.close()


async def check_deleting(there: Platform) -> None:
    """A job that wears it is finished all the same; new ones are refused."""
    wish = {**INPUT, "num_inference_steps": 60, "adapters": ["ink"]}
    begun = (await there.ada.post("/v1/predictions", json={"model": "demo", "input": wish})).json()
    assert (await there.ada.delete("/v1/adapters/ada/ink")).status_code == 204
    refused = await there.ada.post("/v1/predictions", json={"model": "demo", "input": {**INPUT, "adapters": ["ink"]}})
    assert (refused.status_code, refused.json()["error"]["code"]) == (404, "ADAPTER_NOT_FOUND")
    while True:
        told = (await there.ada.get(begun["urls"]["get"])).json()
        if told["status"] not in ("starting", "processing"):
            break
        await asyncio.sleep(0.05)
    assert told["status"] == "succeeded", told


async def test_files_that_are_no_adapter_for_the_model_are_refused(reactor: Any, tmp_path: Path) -> None:
    """For another base, damaged, empty, too large, no file at all, a name that is none or taken: by the field, and nothing is
    left behind."""
    other = save_kohya(make(seed=2), tmp_path / "other")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(CHALK.read_bytes()[:-100])
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    large = tmp_path / "large.safetensors"
    large.write_bytes(bytes(1_000_000))
    async with platform(reactor, tmp_path, max_adapter_bytes=900_000) as there:
        refused = await upload(there, other)
        error = refused.json()["error"]
        assert (refused.status_code, error["code"], error["details"]["field"]) == (422, "ADAPTER_INVALID", "file")
        assert error["message"].startswith("file: lora_unet_"), "the key's name, and none of a file that we have made"
        assert "made for another base model" in error["message"] or "no such layer" in error["message"], error
        assert str(tmp_path) not in error["message"]
        for path, status in ((torn, 422), (empty, 422), (large, 413)):
            refused = await upload(there, path)
            assert (refused.status_code, refused.json()["error"]["details"]["field"]) == (status, "file"), path
        for texts, field in (
            ({"name": "a/b"}, "name"),
            ({"signature_position": "middle"}, "signature_position"),
            ({"base_model": "nobody"}, "base_model"),
            ({"colour": "red"}, "colour"),
        ):
            refused = await upload(there, CHALK, **texts)
            assert refused.status_code in (404, 422)
            assert field in refused.text, refused.text
        assert (await there.ada.post("/v1/adapters", data={"name": "ink"}, files={"x": b""})).status_code == 422
        assert (await there.ada.get("/v1/adapters")).json() == {"adapters": []}
        assert (await upload(there, CHALK)).status_code == 201
        assert (await upload(there, CHALK)).json()["error"]["details"]["field"] == "name"
    assert list((tmp_path / "data" / "uploads").iterdir()) == []
