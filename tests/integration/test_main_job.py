"""The main job over real TCP with the real engine: a prompt in, a signed picture out."""

from __future__ import annotations

import hashlib
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ai.schedules import SOLVERS
from proto import atelier_pb2 as pb
from server.wire.connection import Received
from tests.integration.conftest import ALICE, BOB
from tests.integration.raw_client import RawClient, picture_of
from watermark import read_metadata

PROMPT = "a big red circle on a white background"
FEW = {"num_inference_steps": 6, "guidance_scale": 3.0, "inline_pictures": True}


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    """A PNG's pixels, height × width × 3."""
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)


def last(heard: list[Received]) -> Any:
    """The message that ended a request."""
    return heard[-1].message


async def test_a_prompt_becomes_a_picture_that_follows_it(server: tuple[str, int]) -> None:
    """Accepted, progress step by step, the picture in chunks, and a Result that describes it, in this order."""
    client = await RawClient.connect(server, ALICE)
    request_id = client.submit(PROMPT, seed=3, progress=True, inline_pictures=True)
    heard = await client.hear_all(request_id)
    kinds = [event.kind for event in heard]
    assert kinds[0] == "accepted"
    assert kinds[-1] == "result"
    steps = [event.message.step for event in heard if event.kind == "progress"]  # type: ignore[attr-defined]
    assert steps == sorted(steps)
    assert steps[-1] == 20
    numbers = [event.message.event_number for event in heard if event.kind in ("progress", "result")]  # type: ignore[attr-defined]
    assert numbers == sorted(set(numbers))
    (artifact,) = last(heard).artifacts
    png = picture_of(heard)
    assert hashlib.sha256(png).hexdigest() == artifact.sha256
    assert len(png) == artifact.size
    image = pixels(png)
    assert image.shape == (128, 128, 3)
    assert image[:8].mean() > 220, "the ground is white"
    red, green, blue = image[60:68, 60:68].reshape(-1, 3).mean(axis=0)
    assert red > 150
    assert max(green, blue) < 110
    metadata = read_metadata(png)
    assert metadata["prompt"] == PROMPT
    assert metadata["seed"] == "3"
    assert metadata["job_id"] == last(heard).job_id
    await client.close()


async def test_ten_jobs_at_once_equal_each_one_alone(server: tuple[str, int]) -> None:
    """Whoever shares the batch, a request's picture is the one it gets alone (at most 1 of 255 apart)."""
    client = await RawClient.connect(server, ALICE)
    wishes: list[dict[str, Any]] = [
        {
            "prompt": f"a {colour} {shape} on a {ground} background",
            "seed": index,
            "num_inference_steps": 4 + index,
            "guidance_scale": 1.0 if index == 5 else 2.0 + index / 3,
            "negative_prompt": "blue" if index % 3 == 0 else "",
            "solver": SOLVERS[index % len(SOLVERS)],
        }
        for index, (colour, shape, ground) in enumerate(
            zip(
                ("red", "green", "blue", "yellow", "white", "black", "pink", "cyan", "brown", "gray"),
                ("star", "circle", "square", "heart", "moon", "house", "tree", "ring", "cross", "flower"),
                ("blue", "white", "yellow", "black", "green", "pink", "gray", "red", "cyan", "purple"),
                strict=True,
            )
        )
    ]
    requests = [client.submit(**wish, inline_pictures=True) for wish in wishes]
    together = await client.hear_each(requests)
    for wish, request_id in zip(wishes, requests, strict=True):
        alone = await client.hear_all(client.submit(**wish, inline_pictures=True))
        difference = np.abs(pixels(picture_of(alone)) - pixels(picture_of(together[request_id]))).max()
        assert difference <= 1, wish
    await client.close()


async def test_several_images_of_one_job_are_seeded_one_after_the_other(server: tuple[str, int]) -> None:
    """Image i of a job is the picture of seed + i, and the Result lists them in order."""
    client = await RawClient.connect(server, ALICE)
    both = await client.hear_all(client.submit(PROMPT, seed=7, num_images=2, **FEW))
    assert [artifact.seed for artifact in last(both).artifacts] == [7, 8]
    second = await client.hear_all(client.submit(PROMPT, seed=8, **FEW))
    assert np.abs(pixels(picture_of(both, 1)) - pixels(picture_of(second))).max() <= 1
    await client.close()


async def test_a_signature_is_painted_and_named(server: tuple[str, int]) -> None:
    """A signature changes its corner alone, and the artist stands in the file's metadata."""
    client = await RawClient.connect(server, ALICE)
    plain = await client.hear_all(client.submit(PROMPT, seed=1, **FEW))
    signature = pb.Signature(text="Mina", position=pb.Signature.TOP_LEFT, size=pb.Signature.LARGE, artist="Mina Kim")
    signed = await client.hear_all(client.submit(PROMPT, seed=1, signature=signature, **FEW))
    difference = np.abs(pixels(picture_of(plain)) - pixels(picture_of(signed))).max(axis=2)
    rows, columns = np.nonzero(difference > 8)
    assert len(rows), "the signature can be seen"
    assert abs(rows.min() - 10) <= 5
    assert abs(columns.min() - 10) <= 5
    assert columns.max() < 10 + 0.35 * 128 + 5
    assert read_metadata(picture_of(signed))["artist"] == "Mina Kim"
    await client.close()


async def test_previews_come_as_small_pictures(server: tuple[str, int]) -> None:
    """A job that asks for a preview every three steps gets PNGs of the latent's size."""
    client = await RawClient.connect(server, ALICE)
    heard = await client.hear_all(client.submit(PROMPT, seed=1, preview_every_steps=3, **FEW))
    previews: list[Any] = [event.message for event in heard if event.kind == "preview"]
    assert [preview.step for preview in previews] == [3]  # the sixth step is the picture itself
    assert Image.open(BytesIO(previews[0].png)).size == (16, 16)
    await client.close()


async def test_words_outside_the_model_s_world_do_no_harm(server: tuple[str, int]) -> None:
    """Hangul, emoji and unknown words give a picture like any other; what is cut off is named in a warning."""
    client = await RawClient.connect(server, ALICE)
    odd = await client.hear_all(client.submit("별 하나 🎨 zxqv \u202e \x00 end", seed=1, **FEW))
    assert odd[-1].kind == "result"
    long = await client.hear_all(client.submit("a red star " * 40, seed=1, **FEW))
    assert any("prompt" in warning and "star" in warning for warning in last(long).warnings)
    await client.close()


async def test_cancel_ends_the_job_and_nobody_else_s(server: tuple[str, int]) -> None:
    """Cancel is answered, the job's own request then ends with Canceled, and a neighbour gets its picture."""
    client = await RawClient.connect(server, ALICE)
    doomed = client.submit(PROMPT, seed=1, num_inference_steps=100, progress=True)
    neighbour = client.submit(PROMPT, seed=2, **FEW)
    job_id = ""
    while not job_id:
        event: Any = await client.hear()
        if event.kind == "progress" and event.request_id == doomed:
            job_id = event.message.job_id
    client.say(cancel=pb.Cancel(job_id=job_id))
    heard = await client.hear_each([doomed, neighbour])
    assert heard[doomed][-1].kind == "canceled"
    assert heard[neighbour][-1].kind == "result"
    job: Any = (await client.ask(get_job=pb.GetJob(job_id=job_id))).message
    assert job.state == pb.JOB_CANCELED
    await client.close()


async def test_a_job_survives_its_connection_and_can_be_watched_from_another(server: tuple[str, int]) -> None:
    """After a hang-up the same owner watches the job from a new connection, and gets its picture; another owner cannot."""
    first = await RawClient.connect(server, ALICE)
    first.submit(PROMPT, seed=4, num_inference_steps=30, idempotency_key="survivor")
    accepted: Any = (await first.hear()).message
    await first.close()
    second = await RawClient.connect(server, ALICE)
    request_id = second.say(watch=pb.Watch(job_id=accepted.job_id, inline_pictures=True))
    heard = await second.hear_all(request_id)
    assert [heard[0].kind, heard[-1].kind] == ["accepted", "result"]
    assert pixels(picture_of(heard)).shape == (128, 128, 3)
    again = await second.hear_all(second.say(watch=pb.Watch(job_id=accepted.job_id, from_event=1)))
    assert [event.kind for event in again] == ["result"]
    stranger = await RawClient.connect(server, BOB)
    refused: Any = (await stranger.ask(watch=pb.Watch(job_id=accepted.job_id))).message
    assert refused.code == pb.JOB_NOT_FOUND
    await second.close()
    await stranger.close()


async def test_cancel_on_disconnect_takes_the_job_along(server: tuple[str, int]) -> None:
    """A job that was to end with its connection is cancelled when that hangs up."""
    first = await RawClient.connect(server, ALICE)
    first.submit(PROMPT, seed=4, num_inference_steps=100, cancel_on_disconnect=True)
    accepted: Any = (await first.hear()).message
    await first.close()
    second = await RawClient.connect(server, ALICE)
    heard = await second.hear_all(second.say(watch=pb.Watch(job_id=accepted.job_id)))
    assert heard[-1].kind == "canceled"
    await second.close()


async def test_the_same_key_is_the_same_job(server: tuple[str, int]) -> None:
    """Two Submits under one key, also at the same moment, make one job; another body under it is refused."""
    client = await RawClient.connect(server, ALICE)
    keyed = {"seed": 9, "idempotency_key": "order-17", **FEW}
    requests = [client.submit(PROMPT, **keyed) for _ in range(2)]
    heard = await client.hear_each(requests)
    accepted: list[Any] = [heard[request_id][0].message for request_id in requests]
    assert accepted[0].job_id == accepted[1].job_id
    assert sorted(message.duplicate for message in accepted) == [False, True]  # either may be the first to be recorded
    assert picture_of(heard[requests[0]]) == picture_of(heard[requests[1]])
    conflict = last(await client.hear_all(client.submit("a blue moon on a pink background", **keyed)))
    assert conflict.code == pb.IDEMPOTENCY_CONFLICT
    assert conflict.field == "idempotency_key"
    other = await RawClient.connect(server, BOB)
    theirs: Any = (await other.hear_all(other.submit(PROMPT, **keyed)))[0].message
    assert not theirs.duplicate
    assert theirs.job_id != accepted[0].job_id
    await client.close()
    await other.close()


async def test_a_job_past_its_deadline_fails(server: tuple[str, int]) -> None:
    """A job that cannot be done in time fails with DEADLINE_EXCEEDED."""
    client = await RawClient.connect(server, ALICE)
    failed = last(await client.hear_all(client.submit(PROMPT, num_inference_steps=100, deadline_seconds=0.2)))
    assert failed.error.code == pb.DEADLINE_EXCEEDED
    await client.close()


async def test_models_and_status_are_told(server: tuple[str, int]) -> None:
    """The models with their defaults, and how the server is doing."""
    client = await RawClient.connect(server, ALICE)
    models: Any = (await client.ask(list_models=pb.ListModels())).message
    assert [model.name for model in models.models] == ["demo", "text-demo", "stream-demo"]
    assert models.models[0].default_width == 128
    assert models.models[0].state == pb.MODEL_READY
    status: Any = (await client.ask(get_server_status=pb.GetServerStatus())).message
    assert status.state == pb.READY
    assert status.connections >= 1
    pong: Any = (await client.ask(ping=pb.Ping(client_time_us=17))).message
    assert pong.client_time_us == 17
    await client.close()


@pytest.mark.parametrize("reading", [True, False])
async def test_a_reader_that_stops_reading_loses_no_result(server: tuple[str, int], reading: bool) -> None:
    """A client that reads nothing while twenty jobs run still gets every Accepted and every Result afterwards."""
    client = await RawClient.connect(server, ALICE)
    wishes = {"progress": True, "num_inference_steps": 5, "width": 64, "height": 64, "inline_pictures": True}
    requests = [client.submit(PROMPT, seed=seed, **wishes) for seed in range(20)]
    if not reading:
        other = await RawClient.connect(server, ALICE)  # the jobs have ended when this one sees them all ended
        while True:
            status: Any = (await other.ask(get_server_status=pb.GetServerStatus())).message
            if status.jobs_waiting + status.jobs_running == 0:
                break
        await other.close()
    heard = await client.hear_each(requests)
    assert all(messages[0].kind == "accepted" and messages[-1].kind == "result" for messages in heard.values())
    assert all(pixels(picture_of(messages)).shape == (64, 64, 3) for messages in heard.values())
    await client.close()
