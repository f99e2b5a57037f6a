"""Custom models in the whole server: real processes, the real engine, records that outlive it."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
from PIL import Image

from config import load_settings
from factory.service import AtelierService, make_service
from proto import atelier_pb2 as pb
from tests.integration.raw_client import RawClient
from tests.integration.served import serving
from tests.integration.test_http import TOKEN, ask

ODD = "tests.ai.custom.odd"


@asynccontextmanager
async def house(reactor: Any, folder: Path, models: str, **settings: Any) -> AsyncIterator[tuple[AtelierService, str]]:
    """A server with these custom models, and where its HTTP door is."""
    given = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="tcp:0:interface=127.0.0.1",
        tokens=f"web:{TOKEN}",
        data_dir=folder,
        custom_models=models,
        **settings,
    )
    service = make_service(given, reactor)
    await service.start()
    try:
        yield service, service.addresses[1]
    finally:
        await service.stop()
    assert not service.threads_left
    assert not [
        child for child in psutil.Process().children(recursive=True) if "keeper.py" in " ".join(child.cmdline())
    ]


async def predict(base: str, model: str, **given: Any) -> dict[str, Any]:
    """A prediction at its end, or the refusal."""
    status, body = await ask(f"{base}/v1/predictions", {"model": model, "input": given})
    told: dict[str, Any] = json.loads(body)
    while status < 300 and told["status"] not in ("succeeded", "failed", "canceled"):
        await asyncio.sleep(0.05)
        told = json.loads((await ask(f"{base}/v1/predictions/{told['id']}"))[1])
    return told


async def states(base: str) -> dict[str, str]:
    """Each model's."""
    told = json.loads((await ask(f"{base}/v1/models"))[1])
    return {model["name"]: model["state"] for model in told["models"]}


def a_picture(width: int, height: int) -> str:
    """As a data URL, and not one that packs well."""
    file = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


async def test_a_custom_model_is_asked_like_any_other(reactor: Any, tmp_path: Path) -> None:
    """It is listed with what it takes; its output is the job's; an input that does not fit is refused by name, before a job."""
    async with house(reactor, tmp_path, f"echo={ODD}:Echo,teller={ODD}:Teller") as (_, base):
        listed = {model["name"]: model for model in json.loads((await ask(f"{base}/v1/models"))[1])["models"]}
        assert listed["echo"]["input_schema"]["times"]["maximum"] == 5
        assert listed["teller"]["model_type"] == "text-generation"
        told = await predict(base, "echo", text="ha", times=3)
        assert told["status"] == "succeeded"
        assert told["output"]["said"] == "hahaha"
        refused = await predict(base, "echo", text="ha", times=9)
        assert refused["error"]["details"]["field"] == "input.times"
        assert (await predict(base, "teller", words=2))["output"] == "word 0 word 1 "


async def test_a_picture_goes_through_the_upscaler(reactor: Any, tmp_path: Path) -> None:
    """More than a megabyte of it; what comes out is a stored picture like any other."""
    models, limits = "upscaler=ai.custom.examples.upscaling:Upscaler", {"max_init_image_bytes": 1_300_000}
    async with house(reactor, tmp_path, models, max_frame_bytes=2 << 20, **limits) as (_, base):
        large = await predict(base, "upscaler", image=a_picture(1000, 1000)[:1_900_000])
        assert large["error"]["details"]["field"] == "input.image"
        given = a_picture(800, 600)
        assert len(given) > 1_000_000
        told = await predict(base, "upscaler", image=given, scale=2)
        assert told["status"] == "succeeded", told
        (address,) = told["output"]
        status, png = await ask(address)
        assert status == 200
        assert Image.open(io.BytesIO(png)).size == (1600, 1200)
        assert len(json.dumps(told["input"])) < 1000, "the picture itself is not told again"


async def test_what_a_custom_model_does_wrong_is_its_own(reactor: Any, tmp_path: Path) -> None:
    """Each has its code, with the model's name and no trace; pictures are painted beside it."""
    models = f"bad={ODD}:Troubled,ill={ODD}:LoadRaises,none=nowhere.at.all:Class"
    async with house(reactor, tmp_path, models, custom_memory_limit=200_000_000, custom_predict_timeout=2) as (_, base):
        status, body = await ask(f"{base}/v1/jobs", {"prompt": "a big green tree", "num_inference_steps": 20})
        assert status == 202
        picture = json.loads(body)["id"]
        wrongs = {
            "raise": "GENERATION_FAILED",
            "os_exit": "GENERATION_FAILED",
            "garble": "GENERATION_FAILED",
            "eat": "MEMORY_LIMIT_EXCEEDED",
            "leave_children": None,
        }
        for trouble, code in wrongs.items():
            told = await predict(base, "bad", trouble=trouble)
            assert told.get("error_code") == code, told
            if code:
                assert told["error"].startswith("model bad: ")
                assert "Traceback" not in told["error"]
        assert (await predict(base, "ill"))["error_code"] == "MODEL_LOAD_FAILED"
        told = await predict(base, "none")
        assert "No module named 'nowhere'" in json.dumps(told)
        _, stream = await ask(f"{base}/v1/jobs/{picture}/events")
        assert b"event: succeeded" in stream
        assert (await states(base))["ill"] == "unavailable"


async def test_painters_and_custom_models_make_room_for_one_another(reactor: Any, tmp_path: Path) -> None:
    """One budget: the idle painter goes for a custom model, which goes, idle, for the painter; both come back."""
    async with house(reactor, tmp_path, f"large={ODD}:Large", memory_limit=400_000_000) as (_, base):
        for _ in range(2):
            assert (await predict(base, "demo", prompt="a tree", num_inference_steps=2))["status"] == "succeeded"
            found = await states(base)
            assert (found["demo"], found["large"]) == ("ready", "on_disk")
            assert (await predict(base, "large"))["output"] == "here"
            found = await states(base)
            assert (found["demo"], found["large"]) == ("on_disk", "ready")


async def test_a_killed_server_takes_its_models_processes_along_and_their_jobs_are_taken_up_again(
    tmp_path: Path,
) -> None:
    """After SIGKILL no process of it is left; the next life makes the prediction anew."""
    models = f"patient={ODD}:Patient"
    async with serving(tmp_path, ATELIER_CUSTOM_MODELS=models) as served:
        client = await RawClient.connect(served.address)
        client.say(predict=pb.Predict(model="patient", input=json.dumps({"seconds": 3.0}), progress=True))
        job: Any = (await client.hear()).message
        while (await client.hear()).kind != "progress":
            pass
        processes = psutil.Process(served.process.pid).children(recursive=True)
        assert (
            len([one for one in processes if "keeper.py" in " ".join(one.cmdline())]) == 2
        )  # the keeper and its model
        served.signal(signal.SIGKILL)
        assert (await served.ended())[0] == -signal.SIGKILL
        client.writer.close()
        _, left = await asyncio.to_thread(psutil.wait_procs, processes, 5)
        assert left == []
    async with serving(tmp_path, ATELIER_CUSTOM_MODELS=models) as again:
        client = await RawClient.connect(again.address)
        heard: list[Any] = await client.hear_all(client.say(watch=pb.Watch(job_id=job.job_id, progress=True)))
        assert heard[-1].kind == "result"
        await client.close()


async def test_a_stop_leaves_a_prediction_to_the_next_life(tmp_path: Path) -> None:
    """After SIGTERM with no time to drain the process ends at once with status 0, its models' too."""
    models = f"patient={ODD}:Patient"
    async with serving(tmp_path, ATELIER_CUSTOM_MODELS=models, ATELIER_DRAIN_TIMEOUT="0") as served:
        client = await RawClient.connect(served.address)
        client.say(predict=pb.Predict(model="patient", input=json.dumps({"seconds": 3.0}), progress=True))
        job: Any = (await client.hear()).message
        while (await client.hear()).kind != "progress":
            pass
        processes = psutil.Process(served.process.pid).children(recursive=True)
        served.signal(signal.SIGTERM)
        assert (await served.ended())[0] == 0
        client.writer.close()
        assert not any(process.is_running() for process in processes)
    async with serving(tmp_path, ATELIER_CUSTOM_MODELS=models) as again:
        client = await RawClient.connect(again.address)
        heard: list[Any] = await client.hear_all(client.say(watch=pb.Watch(job_id=job.job_id, progress=True)))
        assert heard[-1].kind == "result"
        await client.close()
