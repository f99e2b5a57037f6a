"""Webhooks of a whole server: a process of its own, a receiver on a real port, and kill -9 while a call is under way."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

from standardwebhooks import Webhook as Verifier

from proto import atelier_pb2 as pb
from tests.integration.conftest import until_ready
from tests.integration.raw_client import RawClient
from tests.integration.served import serving
from tests.server.scripted import Asked, answer, scripted

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SETTINGS = {"ATELIER_OUTGOING_NETWORKS": "127.0.0.0/8", "ATELIER_WEBHOOK_SECRET": SECRET}


def bodies(asked: list[Asked]) -> list[Any]:
    """What each call said, its signature verified."""
    return [Verifier(SECRET).verify(one.body, one.headers) for one in asked]


async def test_a_receiver_hears_a_job_from_its_start_to_its_end(tmp_path: Path) -> None:
    """Signed, in order, though nobody is connected any more when it ends; and no log shows the secret."""
    async with serving(tmp_path, ATELIER_LOG_LEVEL="DEBUG", **SETTINGS) as server, scripted(answer()) as host:
        await until_ready(server.address)
        client = await RawClient.connect(server.address)
        hook = pb.Webhook(url=f"http://127.0.0.1:{host.port}/told?key=of-a-user")
        client.submit("a red star", num_inference_steps=8, webhook=hook)
        accepted: Any = await client.hear()
        job_id = accepted.message.job_id
        await client.close()
        await host.until(lambda: any(body["status"] == "succeeded" for body in bodies(host.asked)))
        told = bodies(host.asked)
        assert told[0]["status"] == "processing"
        assert [body["progress"] for body in told] == sorted(body["progress"] for body in told)
        assert {body["id"] for body in told} == {job_id}
        assert len(told[-1]["output"]) == 1
        assert len({one.headers["webhook-id"] for one in host.asked}) == len(host.asked)
        server.signal(signal.SIGTERM)
        status, logged = await server.ended()
    assert status == 0, logged
    assert SECRET.removeprefix("whsec_") not in logged
    assert "of-a-user" not in logged


async def test_a_server_killed_while_it_tells_the_end_tells_it_again_under_its_id(tmp_path: Path) -> None:
    """The receiver had it, and nobody knew: the next life sends the same once more."""
    ends: list[Asked] = []

    async def first_hangs(asked: Asked, writer: asyncio.StreamWriter) -> None:
        ends.append(asked)
        if len(ends) == 1:
            await asyncio.get_running_loop().create_future()
        await answer()(asked, writer)

    async with scripted(first_hangs) as host:
        async with serving(tmp_path, **SETTINGS) as server:
            await until_ready(server.address)
            client = await RawClient.connect(server.address)
            hook = pb.Webhook(url=f"http://127.0.0.1:{host.port}/", events=[pb.Webhook.COMPLETED])
            client.submit("a red star", num_inference_steps=2, webhook=hook)
            await host.until(lambda: len(ends) == 1)
            server.signal(signal.SIGKILL)
            await server.ended()
            await client.close()
        async with serving(tmp_path, **SETTINGS):
            await host.until(lambda: len(ends) == 2)
    assert ends[0].headers["webhook-id"] == ends[1].headers["webhook-id"]
    assert json.loads(ends[0].body) == json.loads(ends[1].body)


async def test_an_address_on_the_machine_itself_is_refused_with_the_submit(tmp_path: Path) -> None:
    """Unless the operator allows it."""
    async with serving(tmp_path, ATELIER_WEBHOOK_SECRET=SECRET) as server:
        client = await RawClient.connect(server.address)
        for url in ("http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data"):
            client.submit("a red star", webhook=pb.Webhook(url=url))
            refused: Any = await client.hear()
            assert (refused.message.code, refused.message.field) == (pb.INVALID_PARAMETER, "webhook.url")
        await client.close()
