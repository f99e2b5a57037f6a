"""Starting, loading, stopping: the server as a process."""

from __future__ import annotations

import asyncio
import json
import signal
import sqlite3
import ssl
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageChops

from proto import atelier_pb2 as pb
from tests.integration.raw_client import RawClient
from tests.integration.served import LISTEN, serving, start
from tests.server.scripted import certify

TOKEN = "only-token-0123456789"
PROMPT = "a big green tree on a pink background"


async def test_it_listens_before_the_model_is_there_and_jobs_wait_for_it(tmp_path: Path) -> None:
    """The first status says LOADING; a job submitted then is accepted at once and painted when the model is ready."""
    async with serving(tmp_path, ATELIER_LOG_FORMAT="json") as served:
        client = await RawClient.connect(served.address)
        status: Any = (await client.ask(get_server_status=pb.GetServerStatus())).message
        assert status.state == pb.LOADING
        heard = await client.hear_all(client.submit(PROMPT, seed=1, num_inference_steps=3))
        assert [heard[0].kind, heard[-1].kind] == ["accepted", "result"]
        job_id = heard[0].message.job_id  # type: ignore[attr-defined]
        status = (await client.ask(get_server_status=pb.GetServerStatus())).message
        assert status.state == pb.READY
        await client.close()
        served.signal(signal.SIGTERM)
        exit_status, logged = await served.ended()
        assert exit_status == 0
        lines = [json.loads(line) for line in logged.splitlines() if line.startswith("{")]
        told = [line["event"] for line in lines if line.get("job_id") == job_id]
        assert told[0] == "job.accepted"
        assert told[-1] == "job.ended"


async def test_a_stop_signal_lets_running_jobs_finish(tmp_path: Path) -> None:
    """After SIGINT new jobs are refused, the running one is finished, and the process ends with status 0."""
    async with serving(tmp_path) as served:
        client = await RawClient.connect(served.address)
        running = client.submit(PROMPT, seed=1, num_inference_steps=60, progress=True)
        while (await client.hear()).kind != "progress":
            pass
        served.signal(signal.SIGINT)
        while True:  # until the signal has arrived there too
            status: Any = (await client.ask(get_server_status=pb.GetServerStatus())).message
            if status.state == pb.DRAINING:
                break
        refused = client.submit(PROMPT, seed=2)
        heard = await client.hear_each([running, refused])
        assert heard[refused][-1].message.code == pb.UNAVAILABLE  # type: ignore[attr-defined]
        assert heard[running][-1].kind == "result"
        assert [event.kind for event in await client.rest()] == ["goodbye"]
        client.writer.close()
        assert (await served.ended())[0] == 0


async def test_what_cannot_be_finished_in_time_is_finished_in_the_next_life(tmp_path: Path) -> None:
    """With no time to drain the process still ends with status 0; whoever comes back then watches the job to its end."""
    async with serving(tmp_path, ATELIER_DRAIN_TIMEOUT="0") as served:
        client = await RawClient.connect(served.address)
        client.submit(PROMPT, seed=1, num_inference_steps=100, progress=True)
        job: Any = (await client.hear()).message
        while (seen := await client.hear()).kind != "progress":
            pass
        number: int = seen.message.event_number  # type: ignore[attr-defined]
        served.signal(signal.SIGTERM)
        assert [event.kind for event in (await client.rest()) if event.kind != "progress"] == ["goodbye"]
        client.writer.close()
        assert (await served.ended())[0] == 0
    async with serving(tmp_path) as again:
        client = await RawClient.connect(again.address)
        watching = client.say(watch=pb.Watch(job_id=job.job_id, from_event=number + 1, progress=True))
        heard: list[Any] = await client.hear_all(watching)
        assert heard[0].message.event_number > number
        assert heard[-1].kind == "result"
        await client.close()


async def test_a_killed_server_loses_no_job_and_paints_the_same_pictures(tmp_path: Path) -> None:
    """After SIGKILL in the middle of the work every stored picture is whole, and the next life finishes every job."""
    async with serving(tmp_path) as served:
        client = await RawClient.connect(served.address)
        for seed in range(6):
            client.submit(PROMPT, seed=seed, num_inference_steps=2 + seed * 4)
        jobs: list[str] = []
        while (event := await client.hear()).kind != "result":
            jobs += [event.message.job_id] if event.kind == "accepted" else []  # type: ignore[attr-defined]
        served.signal(signal.SIGKILL)
        assert (await served.ended())[0] == -signal.SIGKILL
        client.writer.close()
    stored = list((tmp_path / "data").rglob("*.png"))
    assert stored
    assert all(path.read_bytes().endswith(b"IEND\xaeB`\x82") for path in stored)
    async with serving(tmp_path) as again:
        client = await RawClient.connect(again.address)
        assert len(jobs) == 6
        heard = await client.hear_each([client.say(watch=pb.Watch(job_id=job_id)) for job_id in jobs])
        results: list[Any] = [events[-1] for events in heard.values()]
        assert [result.kind for result in results] == ["result"] * 6
        last: Any = (await client.hear_all(client.submit(PROMPT, seed=5, num_inference_steps=22)))[-1]
        await client.close()
        assert _apart(tmp_path, results[5].message, last.message) <= 1, (
            "an interrupted job has the picture of any other"
        )


async def test_a_job_that_a_stop_cuts_short_goes_on_from_its_step_with_the_same_picture(tmp_path: Path) -> None:
    """After SIGTERM with no time to drain, the next life tells the steps after those that were made, and no earlier one."""
    asked = {"seed": 5, "num_inference_steps": 100, "solver": "euler_a"}
    async with serving(tmp_path, ATELIER_DRAIN_TIMEOUT="0") as served:
        client = await RawClient.connect(served.address)
        client.submit(PROMPT, progress=True, **asked)
        job: Any = (await client.hear()).message
        while (event := await client.hear()).kind != "progress" or event.message.step < 3:  # type: ignore[attr-defined]
            pass
        served.signal(signal.SIGTERM)
        assert (await served.ended())[0] == 0
        client.writer.close()
    with sqlite3.connect(tmp_path / "data" / "atelier.db") as records:
        ((saved,),) = records.execute("SELECT step FROM latents").fetchall()
    assert saved >= 3
    async with serving(tmp_path) as again:
        client = await RawClient.connect(again.address)
        heard: list[Any] = await client.hear_all(client.say(watch=pb.Watch(job_id=job.job_id, progress=True)))
        assert heard[-1].kind == "result"
        assert min(one.message.step for one in heard if one.kind == "progress") > saved
        whole: Any = (await client.hear_all(client.submit(PROMPT, **asked)))[-1]
        await client.close()
        assert _apart(tmp_path, heard[-1].message, whole.message) <= 1


def _apart(folder: Path, *results: Any) -> int:
    """By how many of 255 levels the pictures of two results differ at most."""
    one, other = (
        Image.open(folder / "data" / "artifacts" / result.artifacts[0].key).convert("RGB") for result in results
    )
    return max(ImageChops.difference(one, other).tobytes())


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("DATABASE_URL", "mysql://me:secret-that-must-not-show@host/db", "ATELIER_DATABASE_URL"),
        ("ATELIER_TOKENS", "nameless-secret-that-must-not-show", "ATELIER_TOKENS"),
        ("ATELIER_TCP_LISTEN", "tcp:0", "needs tokens"),
        ("ATELIER_TCP_LISTEN", "tcp:x:interface=127.0.0.1", "ATELIER_TCP_LISTEN"),
        ("ATELIER_NO_SUCH_THING", "1", "ATELIER_NO_SUCH_THING"),
        ("MAX_STEPS", "many", "MAX_STEPS"),
        ("ATELIER_MODELS", "demo", "ATELIER_MODELS"),
        ("ATELIER_DEVICE", "gpu", "ATELIER_DEVICE"),
    ],
)
async def test_a_bad_setting_stops_the_start(tmp_path: Path, name: str, value: str, said: str) -> None:
    """Exit status 2, the variable's name on stderr, no traceback, and no secret."""
    process = await start(tmp_path, **{**LISTEN, name: value})
    _, said_on_stderr = await process.communicate()
    text = said_on_stderr.decode()
    assert process.returncode == 2, text
    assert said in text
    assert "Traceback" not in text
    assert "must-not-show" not in text


async def test_a_port_in_use_is_said(tmp_path: Path) -> None:
    """Exit status 1 and the address on stderr."""
    other = tmp_path / "other"  # a data folder of its own: the first server's is in use too
    other.mkdir()
    async with serving(tmp_path) as served:
        process = await start(other, **{**LISTEN, "ATELIER_TCP_LISTEN": f"tcp:{served.address[1]}:interface=127.0.0.1"})
        _, said = await process.communicate()
        assert process.returncode == 1
        assert str(served.address[1]) in said.decode()
        assert "Traceback" not in said.decode()


async def test_a_model_that_is_not_there_fails_its_jobs_and_not_the_server(tmp_path: Path) -> None:
    """The server stays up, ServerStatus says why, and a job for the model fails with MODEL_LOAD_FAILED."""
    async with serving(tmp_path, ATELIER_MODELS=f"lost={tmp_path}/nowhere.safetensors") as served:
        client = await RawClient.connect(served.address)
        heard = await client.hear_all(client.submit(PROMPT))
        assert heard[-1].message.error.code == pb.MODEL_LOAD_FAILED  # type: ignore[attr-defined]
        status: Any = (await client.ask(get_server_status=pb.GetServerStatus())).message
        assert status.state == pb.FAILED
        # Of the path nothing is told, which is nobody's affair; the log has it.
        assert status.problem == "lost: there is no such file or folder"
        assert heard[-1].message.error.message.count("lost: ") == 1  # type: ignore[attr-defined]
        await client.close()


async def test_tls_and_a_token_serve_every_address(tmp_path: Path) -> None:
    """An ssl: endpoint on all addresses paints for who has the token."""
    certify(tmp_path, "localhost")
    listen = f"ssl:0:privateKey={tmp_path}/key.pem:certKey={tmp_path}/cert.pem"
    async with serving(tmp_path, ATELIER_TCP_LISTEN=listen, ATELIER_TOKENS=f"me:{TOKEN}") as served:
        trust = ssl.create_default_context(cafile=str(tmp_path / "cert.pem"))
        streams = await asyncio.open_connection("127.0.0.1", served.address[1], ssl=trust, server_hostname="localhost")
        client = RawClient(*streams)
        assert (await client.ask(hello=pb.Hello(protocol_version=1, token=TOKEN))).kind == "welcome"
        wishes = {"num_inference_steps": 2, "inline_pictures": True, "width": 512, "height": 512}
        heard = await client.hear_all(client.submit(PROMPT, seed=1, **wishes))
        assert heard[-1].kind == "result"
        assert len([event for event in heard if event.kind == "chunk"]) >= 1
        await client.close()
