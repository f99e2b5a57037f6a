"""Predictions with Replicate's own Python client, and as front ends of dialect D ask for them: a real server, over TLS."""

from __future__ import annotations

import asyncio
import io
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from PIL import Image, ImageChops
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.helpers import FileOutput
from replicate.webhook import InvalidSignatureError, Webhooks

from config import load_settings
from factory.service import make_service
from proto import atelier_pb2 as pb
from tests.integration.conftest import address_of, until_ready
from tests.integration.raw_client import RawClient
from tests.server.scripted import answer, certify, scripted

T = TypeVar("T")

TOKEN, OTHER = "web-token-0123456789", "other-token-0123456789"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MODEL = "atelier/demo"
QUICK = {"prompt": "a big green tree on a pink background", "seed": 7, "num_inference_steps": 2}
LONG = {"prompt": "a big green tree", "num_inference_steps": 100, "num_outputs": 4}


class Server:
    """A running one. The clients trust its certificate."""

    def __init__(self, base: str, tcp: tuple[str, int], folder: Path) -> None:
        self.base = base
        self.tcp = tcp
        self.trust = ssl.create_default_context(cafile=str(folder / "cert.pem"))
        self._clients: list[Any] = []
        self.client: Any = self.replicate(TOKEN)  # its own types are narrower than what it gives

    def replicate(self, token: str | None, **given: Any) -> Any:
        """A client of theirs."""
        given.setdefault("base_url", self.base)
        client = Client(token, transport=httpx.HTTPTransport(verify=self.trust), **given)
        client.poll_interval = 0.05
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Hang up."""
        for client in self._clients:
            client._client.close()

    def asynchronous(self) -> Any:
        """One for coroutines."""
        transport = httpx.AsyncHTTPTransport(verify=self.trust)
        client = Client(TOKEN, base_url=self.base, transport=transport)
        client.poll_interval = 0.05
        return client

    async def running(self) -> int:
        """Jobs that are being painted."""
        client = await RawClient.connect(self.tcp, TOKEN)
        reply: Any = (await client.ask(get_server_status=pb.GetServerStatus())).message
        await client.close()
        return int(reply.jobs_running)


@asynccontextmanager
async def served(reactor: Any, folder: Path, tokens: str = f"web:{TOKEN},other:{OTHER}") -> AsyncIterator[Server]:
    """A ready server over TLS, with two owners, that may call receivers on this machine."""
    certify(folder, "localhost")
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen=f"ssl:0:interface=127.0.0.1:privateKey={folder / 'key.pem'}:certKey={folder / 'cert.pem'}",
        tokens=tokens,
        webhook_secret=SECRET,
        outgoing_networks="127.0.0.0/8",
        data_dir=folder / "data",
    )
    service = make_service(settings, reactor)
    await service.start()
    try:
        await until_ready(address_of(service), TOKEN)
        port = service.addresses[1].rpartition(":")[2]
        server = Server(f"https://localhost:{port}", address_of(service), folder)
        try:
            yield server
        finally:
            server.close()
    finally:
        await service.stop()


async def aside(work: Callable[..., T], *given: Any, **named: Any) -> T:
    """Their blocking client, on a thread of its own: the server is on this one."""
    return await asyncio.to_thread(work, *given, **named)


async def test_replicate_s_client_works(reactor: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run, create, wait, get, list, stream, cancel; models and versions; blocking and not; by option and by environment."""
    async with served(reactor, tmp_path) as server:
        await check_run(server)
        await check_predictions(server)
        await check_stream(server)
        await check_models(server)
        await check_refusals(server)
        await check_asynchronous(server)
        monkeypatch.setenv("REPLICATE_BASE_URL", server.base)
        monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)
        by_environment = server.replicate(None, base_url=None)
        assert len((await aside(by_environment.predictions.list)).results) > 3


def opened(png: bytes) -> Image.Image:
    """A picture's pixels."""
    return Image.open(io.BytesIO(png), formats=["PNG"]).convert("RGB")


async def check_run(server: Server) -> None:
    """The pictures, as files that can be read; the same by version, and where the wait is too short for the job."""
    (picture,) = await aside(server.client.run, MODEL, QUICK)
    assert isinstance(picture, FileOutput)
    png = await aside(picture.read)
    assert opened(png).size == (128, 128)
    version = (await aside(server.client.models.get, MODEL)).latest_version
    assert version is not None
    for reference in (f"{MODEL}:{version.id}", version):
        pictures: Any = await aside(server.client.run, reference, {**QUICK, "num_outputs": 2})
        difference: Any = ImageChops.difference(opened(await aside(pictures[0].read)), opened(png)).getextrema()
        assert max(high for _, high in difference) <= 1  # docs/promises.md: beside another picture
        assert len(pictures) == 2
    polled = await aside(server.client.run, MODEL, {**LONG, "num_outputs": 1}, wait=1)
    assert isinstance(polled[0], FileOutput)
    assert isinstance((await aside(server.client.run, MODEL, QUICK, use_file_output=False))[0], str)


async def check_predictions(server: Server) -> None:
    """From starting to its end, canceled on the way, and all of them in a list of pages."""
    predictions = server.client.predictions
    created = await aside(predictions.create, model=MODEL, input=QUICK)
    assert (created.status, created.model) == ("starting", MODEL)
    await aside(created.wait)
    assert (created.status, created.error, created.input["seed"]) == ("succeeded", None, 7)
    assert created.metrics["total_time"] >= created.metrics["predict_time"] > 0
    assert created.progress.percentage == 1.0
    assert (await aside(predictions.get, created.id)).output == created.output

    held = await aside(predictions.create, version=created.version, input=QUICK, wait=30)
    assert held.status == "succeeded"

    long = await aside(predictions.create, model=MODEL, input=LONG)
    while long.status == "starting":
        await aside(long.reload)
    assert long.status == "processing"
    await aside(long.cancel)
    assert long.status == "canceled"
    assert await server.running() == 0
    await aside(long.reload)
    assert (long.status, long.output) == ("canceled", None)

    page = await aside(predictions.list)
    assert [one.id for one in page.results[:3]] == [long.id, held.id, created.id]
    first = await aside(predictions.list, f"{server.base}/v1/predictions?limit=1")
    second = await aside(predictions.list, first.next)
    assert [one.id for one in second.results] == [held.id]
    assert [one.id for one in (await aside(predictions.list, second.previous)).results] == [long.id]
    assert (await aside(server.replicate(OTHER).predictions.list)).results == []


async def check_stream(server: Server) -> None:
    """Its events, by the client that breaks at one it does not know."""
    made = await aside(
        server.client.predictions.create, model=MODEL, input={**QUICK, "num_inference_steps": 8}, stream=True
    )
    told = await aside(lambda: list(made.stream()))
    kinds = [event.event.value for event in told]
    assert kinds[-2:] == ["output", "done"]
    assert set(kinds[:-2]) <= {"logs"}
    assert isinstance(told[-2].data, FileOutput)
    again = await aside(lambda: list(server.client.stream(MODEL, input=QUICK)))
    assert str(again[-1].data) == "{}"


async def check_models(server: Server) -> None:
    """With the schema of what goes in."""
    model = await aside(server.client.models.get, MODEL)
    assert (model.owner, model.name, model.id) == ("atelier", "demo", MODEL)
    assert [one.id for one in (await aside(server.client.models.list)).results] == [MODEL, "atelier/text-demo"]
    (version,) = (await aside(model.versions.list)).results
    found = await aside(model.versions.get, version.id)
    properties = found.openapi_schema["components"]["schemas"]["Input"]["properties"]
    assert properties["width"]["default"] == 128
    assert version.id == found.id


async def check_refusals(server: Server) -> None:
    """As their errors: a field that does not fit, a model that is not here, and a token that is not known."""
    with pytest.raises(ReplicateError) as refused:
        await aside(server.client.run, MODEL, {**QUICK, "width": 7000})
    assert refused.value.status == 422
    with pytest.raises(ReplicateError) as refused:
        await aside(server.client.models.get, "atelier/nope")
    assert refused.value.status == 404
    with pytest.raises(ReplicateError) as refused:
        await aside(server.replicate("wrong").predictions.list)
    assert refused.value.status == 401


async def check_asynchronous(server: Server) -> None:
    """The same without threads."""
    client = server.asynchronous()
    (picture,) = await client.async_run(MODEL, QUICK)
    assert (await picture.aread()).startswith(b"\x89PNG")
    made = await client.predictions.async_create(model=MODEL, input=QUICK)
    assert [event.event.value async for event in made.async_stream()][-1] == "done"
    await made.async_wait()
    await made.async_cancel()
    assert made.status == "succeeded"
    assert (await client.predictions.async_list()).results[0].id == made.id
    assert (await client.models.async_get(MODEL)).name == "demo"
    await client._async_client.aclose()


async def test_a_webhook_is_validated_by_replicate_s_client(reactor: Any, tmp_path: Path) -> None:
    """With the secret that the server tells its one owner; every outcome is told, signed, and only what was asked for."""
    async with served(reactor, tmp_path, f"web:{TOKEN}") as server, scripted(answer()) as host:
        hook = f"http://127.0.0.1:{host.port}/told"
        client = server.client
        made = await aside(
            client.predictions.create,
            model=MODEL,
            input=QUICK,
            webhook=hook,
            webhook_events_filter=["start", "completed"],
        )
        stopped = await aside(client.predictions.create, model=MODEL, input=LONG, webhook_completed=hook)
        await aside(stopped.cancel)
        await host.until(lambda: len(host.asked) >= 3)
        secret = await aside(client.webhooks.default.secret)
        bodies = []
        for one in host.asked:
            Webhooks.validate(headers=dict(one.headers), body=one.body.decode(), secret=secret, tolerance=60)
            bodies.append(json.loads(one.body))
        with pytest.raises(InvalidSignatureError):
            Webhooks.validate(headers=dict(host.asked[0].headers), body="{}", secret=secret)
        assert [body["status"] for body in bodies if body["id"] == made.id] == ["processing", "succeeded"]
        assert [body["status"] for body in bodies if body["id"] == stopped.id] == ["canceled"]
        (end,) = (body for body in bodies if body["status"] == "succeeded")
        assert end["output"]
        assert end["metrics"]["total_time"] > 0


async def test_d_s_prediction_and_poll_run_as_its_front_ends_do_it(reactor: Any, tmp_path: Path) -> None:
    """Ask, poll until it succeeded, fetch the picture; cancel another while it is processing, and it stays so."""
    async with served(reactor, tmp_path) as server:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=server.base, verify=server.trust, headers=headers) as web:
            body = {"model_id": "demo", "input": {"prompt": "a red star", "num_inference_steps": 4, "seed": 1}}
            made = (await web.post("/v1/predictions", json=body)).json()
            seen = [made["progress"]]
            while made["status"] not in ("succeeded", "failed", "canceled"):
                made = (await web.get(f"/v1/predictions/{made['id']}")).json()
                seen.append(made["progress"])
            assert (made["status"], made["model_id"], made["progress_step"], made["progress_total"]) == (
                "succeeded",
                "demo",
                4,
                4,
            )
            assert seen == sorted(seen)
            assert (await web.get(made["output"][0])).content.startswith(b"\x89PNG")

            long = (await web.post("/v1/predictions", json={"model_id": "demo", "input": LONG})).json()
            while long["status"] == "starting":
                long = (await web.get(f"/v1/predictions/{long['id']}")).json()
            assert (await web.post(f"/v1/predictions/{long['id']}/cancel")).json()["status"] == "canceled"
            assert await server.running() == 0
            listed = (await web.get("/v1/predictions", params={"skip": 0, "limit": 10, "status": "canceled"})).json()
            assert [one["id"] for one in listed["predictions"]] == [long["id"]]
            assert (await web.get(f"/v1/predictions/{long['id']}")).json()["status"] == "canceled"
