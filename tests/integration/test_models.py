"""Models that users register, on a real server: real HTTP, the real engine, the embedded model's files as a user's own."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from config import load_settings
from config.painting import DEMO_MODEL
from factory.service import make_service
from proto import atelier_pb2 as pb
from tests.integration.conftest import address_of, until_ready
from tests.integration.eventually import eventually
from tests.integration.raw_client import RawClient

ADA, BOB = "ada-token-0123456789", "bob-token-0123456789"
INPUT = {"prompt": "a big green tree on a pink background", "seed": 7, "num_inference_steps": 2}


class Platform:
    """A running server, and whoever speaks to it."""

    def __init__(self, base: str, tcp: tuple[str, int]) -> None:
        self.tcp = tcp
        self.ada = self._client(base, ADA)
        self.bob = self._client(base, BOB)

    def _client(self, base: str, token: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=60)

    async def close(self) -> None:
        """Hang up."""
        await self.ada.aclose()
        await self.bob.aclose()

    async def checked(self, model_id: str, client: httpx.AsyncClient | None = None) -> dict[str, Any]:
        """The model when its newest version was looked at, and is here."""
        while True:
            told: dict[str, Any] = (await (client or self.ada).get(f"/v1/models/{model_id}")).json()
            states = [one["state"] for one in told["versions"]]
            if not {"checking", "loading"} & {*states, told["state"]}:
                return told
            await asyncio.sleep(0.02)  # nothing is told of it; nothing depends on the pace

    async def painted(self, model: str, client: httpx.AsyncClient | None = None, **more: Any) -> dict[str, Any]:
        """A prediction at its end."""
        asked = {"model": model, "input": {**INPUT, **more}}
        answer = await (client or self.ada).post("/v1/predictions", json=asked, headers={"Prefer": "wait=60"})
        assert answer.status_code == 201, answer.text
        told: dict[str, Any] = answer.json()
        assert told["status"] == "succeeded", told
        return told

    async def picture(self, prediction: dict[str, Any]) -> bytes:
        """Its pixels."""
        png = (await self.ada.get(prediction["output"][0])).content
        return Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB").tobytes()


@asynccontextmanager
async def platform(reactor: Any, folder: Path, **more: Any) -> AsyncIterator[Platform]:
    """A ready server of two owners; `folder`/models is where their models may lie."""
    (folder / "models").mkdir(exist_ok=True)
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="tcp:0:interface=127.0.0.1",
        tokens=f"ada:{ADA},bob:{BOB}",
        data_dir=folder / "data",
        model_cache_dir=folder / "models",
        catalogue_refresh=0.1,
        **more,
    )
    service = make_service(settings, reactor)
    await service.start()
    try:
        await until_ready(address_of(service), ADA)
        there = Platform(service.addresses[1], address_of(service))
        try:
            yield there
        finally:
            await there.close()
    finally:
        await service.stop()


def a_copy(folder: Path, name: str) -> Path:
    """The embedded model, as somebody's own."""
    place = folder / "models" / name
    shutil.copytree(DEMO_MODEL, place, ignore=shutil.ignore_patterns("adapters", "scorer", "styles.png", "README.md"))
    return place


async def test_a_registered_model_is_painted_with_at_once(reactor: Any, tmp_path: Path) -> None:
    """It is looked at, then offered on every door, without a restart, and after one; its pictures are those of its weights; it is
    its owner's alone until it is public; deleted, it is gone."""
    a_copy(tmp_path, "fox")
    async with platform(reactor, tmp_path) as there:
        answer = await there.ada.post("/v1/models", json={"name": "fox", "description": "mine", "model_path": "fox"})
        assert answer.status_code == 201, answer.text
        made = answer.json()
        assert (made["owner_id"], made["name"], made["version"], made["model_path"]) == ("ada", "fox", "1.0.0", "fox")
        told = await there.checked(made["id"])
        assert (told["versions"][0]["state"], told["problem"]) == ("on_disk", "")
        done = await there.painted("ada/fox")
        assert (done["model"], done["model_id"]) == ("ada/fox", made["id"])
        assert done["version"] == told["versions"][0]["id"]
        assert await there.picture(done) == await there.picture(await there.painted("demo"))
        await check_doors(there, made["id"])
        await check_owners(there, made["id"])
    async with platform(reactor, tmp_path) as there:
        await there.checked("fox")
        await there.painted("fox")
        assert (await there.ada.delete(f"/v1/models/{made['id']}")).status_code == 204
        assert (await there.ada.get(f"/v1/models/{made['id']}")).status_code == 404
        refused = await there.ada.post("/v1/predictions", json={"model": "ada/fox", "input": INPUT})
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")


async def check_doors(there: Platform, model_id: str) -> None:
    """The plain name over TCP and the jobs' own routes; every list has it."""
    client = await RawClient.connect(there.tcp, ADA)
    models: Any = (await client.ask(list_models=pb.ListModels())).message
    assert [model.name for model in models.models] == ["demo", "text-demo", "ada/fox", "stream-demo"]
    await client.close()
    job = await there.ada.post("/v1/jobs", json={"prompt": "a star", "model": "fox", "num_inference_steps": 1})
    assert job.status_code == 202, job.text
    assert job.json()["model"] == "ada/fox:1.0.0"
    replicate = (await there.ada.get("/v1/models/ada/fox")).json()
    assert (replicate["owner"], replicate["visibility"]) == ("ada", "private")
    listed = (await there.ada.get("/v1/models")).json()
    assert [model["id"] for model in listed["models"]] == ["demo", "text-demo", model_id]


async def check_owners(there: Platform, model_id: str) -> None:
    """Another owner does not see it; when it is public they use it, and cannot change it."""
    for path in (f"/v1/models/{model_id}", "/v1/models/ada/fox", "/v1/models/fox"):
        assert (await there.bob.get(path)).status_code == 404
    assert (await there.bob.delete(f"/v1/models/{model_id}")).status_code == 404
    changed = await there.ada.patch(f"/v1/models/{model_id}", json={"visibility": "public"})
    assert changed.json()["visibility"] == "public"
    told = (await there.bob.get(f"/v1/models/{model_id}")).json()
    assert told["model_path"] == "ada/fox"
    await there.painted("ada/fox", there.bob)
    assert (await there.bob.delete(f"/v1/models/{model_id}")).status_code == 403
    assert (await there.bob.patch(f"/v1/models/{model_id}", json={"visibility": "private"})).status_code == 403


async def _told_apart(there: Platform, place: str, drawn: list[str], ids: Mapping[str, str]) -> None:
    """The figures of all versions together, of each, and of one by its name; to others those of their own jobs."""
    made = Counter(drawn) + Counter({ids["1.0.0"]: 1, ids["1.1.0"]: 2})  # by names, before there were shares

    async def figures(of: Any, place: str) -> Any:
        return (await of.get(f"{place}/metrics")).json()

    async def all_ended() -> bool | None:
        return (await figures(there.ada, place))["succeeded"] == 15 or None

    await eventually(all_ended)
    told = await figures(there.ada, place)
    assert (told["scope"], told["jobs"]) == ("all", 15)
    apart = [(one["version"], one["id"], one["weight"], one["succeeded"]) for one in told["versions"]]
    assert apart == [(version, ids[version], 50, made[ids[version]]) for version in ("1.0.0", "1.1.0")]
    one = await figures(there.ada, f"/v1/models/{ids['1.1.0']}")
    assert (one["succeeded"], one["versions"]) == (made[ids["1.1.0"]], [])
    assert (await figures(there.ada, "/v1/models/ada/fox:1.0.0"))["succeeded"] == made[ids["1.0.0"]]
    await there.ada.patch(place, json={"visibility": "public"})
    assert [(await figures(there.bob, place))[name] for name in ("scope", "jobs")] == ["own", 0]
    await there.ada.patch(place, json={"visibility": "private"})


async def test_two_versions_share_the_requests(reactor: Any, tmp_path: Path) -> None:
    """By their weights, the same key always the same; each prediction says which; promoted and rolled back."""
    for name in ("one", "two"):
        a_copy(tmp_path, name)
    async with platform(reactor, tmp_path) as there:
        for version, path in (("1.0.0", "one"), ("1.1.0", "two")):
            new = {"name": "fox", "version": version, "model_path": path}
            answer = await there.ada.post("/v1/models", json=new)
            assert answer.status_code == 201, answer.text
            told = await there.checked(answer.json()["id"])
        place = f"/v1/models/{told['id']}"
        assert [one["weight"] for one in told["versions"]] == [1, 0]
        ids = {one["version"]: one["id"] for one in told["versions"]}
        assert (await there.painted("fox"))["version"] == ids["1.0.0"]
        assert (await there.painted("ada/fox:1.1.0"))["version"] == ids["1.1.0"]
        assert (await there.painted(ids["1.1.0"]))["version"] == ids["1.1.0"]
        shared = await there.ada.put(f"{place}/traffic", json={"weights": {"1.0.0": 50, "1.1.0": 50}})
        assert [one["weight"] for one in shared.json()["versions"]] == [50, 50]
        drawn = []
        for number in range(12):
            asked = {"model": "fox", "input": {**INPUT, "num_inference_steps": 1}}
            twice = [
                (await there.ada.post("/v1/predictions", json=asked, headers={"Idempotency-Key": f"k{number}"})).json()
                for _ in range(2)
            ]
            assert twice[0]["id"] == twice[1]["id"]
            drawn.append(twice[0]["version"])
        assert set(drawn) == set(ids.values())
        await _told_apart(there, place, drawn, ids)
        promoted = await there.ada.post(f"{place}/promote", json={"version": "1.1.0"})
        assert [one["weight"] for one in promoted.json()["versions"]] == [0, 1]
        back = await there.ada.post(f"{place}/rollback")
        assert [one["weight"] for one in back.json()["versions"]] == [50, 50]
        refused = await there.ada.put(f"{place}/traffic", json={"weights": {"9.9.9": 1}})
        assert (refused.status_code, refused.json()["error"]["details"]["field"]) == (422, "weights.9.9.9")


async def test_a_version_s_schema_holds_for_its_predictions(reactor: Any, tmp_path: Path) -> None:
    """The field is named, on every door; what is left out has its default."""
    a_copy(tmp_path, "fox")
    schema = {"num_inference_steps": {"type": "int", "default": 3, "minimum": 1, "maximum": 4}}
    async with platform(reactor, tmp_path) as there:
        asked = {"name": "fox", "model_path": "fox", "input_schema": schema}
        made = (await there.ada.post("/v1/models", json=asked)).json()
        told = await there.checked(made["id"])
        assert told["input_schema"]["num_inference_steps"]["maximum"] == 4
        assert (await there.painted("fox", num_inference_steps=None))["input"]["num_inference_steps"] == 3
        refused = await there.ada.post(
            "/v1/predictions", json={"model": "fox", "input": {**INPUT, "num_inference_steps": 5}}
        )
        error = refused.json()["error"]
        assert (refused.status_code, error["details"]["field"]) == (422, "input.num_inference_steps")
        assert error["details"]["limit"] == "a whole number from 1 to 4"
        client = await RawClient.connect(there.tcp, ADA)
        reply: Any = (await client.ask(submit=pb.Submit(prompt="x", model="fox", num_inference_steps=9))).message
        assert (reply.code, reply.field) == (pb.INVALID_PARAMETER, "num_inference_steps")
        await client.close()
        assert (await there.bob.delete("/v1/models/ada/fox")).status_code == 404
        assert (await there.ada.delete("/v1/models/ada/fox")).status_code == 204
        assert (await there.ada.get("/v1/models/ada/fox")).status_code == 404


async def test_files_that_are_no_model_are_refused_with_the_reason(reactor: Any, tmp_path: Path) -> None:
    """A pickle, a link, a file cut short, another kind, too large a one; none harms anybody else, and none is offered."""
    pickled = a_copy(tmp_path, "pickled")
    (pickled / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80\x02.")
    linked = a_copy(tmp_path, "linked")
    (linked / "vae" / "more.safetensors").symlink_to("/etc/passwd")
    (tmp_path / "models" / "way").symlink_to(linked)
    cut = a_copy(tmp_path, "cut")
    weights = next((cut / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-10])
    (tmp_path / "models" / "empty").mkdir()
    elsewhere = a_copy(tmp_path, "elsewhere")
    (elsewhere / "card.toml").write_text('refiner = "/etc"\n')
    wanted = {
        "pickled": "unet/diffusion_pytorch_model.bin: a pickle",
        "linked": "a link",
        "way": "over a link",
        "cut": "cut short, or damaged",
        "empty": "a model is a diffusers folder or a file",
        "elsewhere": "card.toml: refiner",
        "nothing": "there is no such file or folder",
    }
    async with platform(reactor, tmp_path) as there:
        for name, problem in wanted.items():
            made = (await there.ada.post("/v1/models", json={"name": name, "model_path": name})).json()
            told = await there.checked(made["id"])
            assert told["state"] == "refused", (name, told)
            assert problem in told["problem"], (name, told["problem"])
            assert str(tmp_path) not in told["problem"]
            refused = await there.ada.post("/v1/predictions", json={"model": name, "input": INPUT})
            assert (refused.status_code, refused.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")
        shutil.rmtree(cut)
        a_copy(tmp_path, "cut")
        again = await there.ada.post("/v1/models", json={"name": "cut", "model_path": "cut"})
        assert again.status_code == 201, again.text
        await there.checked(again.json()["id"])
        await there.painted("cut")
