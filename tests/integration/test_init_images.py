"""Image-to-image over real TCP with the real engine."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from proto import atelier_pb2 as pb
from tests.integration.conftest import ALICE
from tests.integration.raw_client import RawClient, picture_of
from watermark import read_metadata

PROMPT = "a big red circle on a white background"
FEW: dict[str, Any] = {"num_inference_steps": 8, "guidance_scale": 3.0, "seed": 3, "inline_pictures": True}


def pixels(png: bytes) -> np.ndarray[Any, Any]:
    """A PNG's pixels, height × width × 3."""
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)


async def test_a_picture_begins_with_another(server: tuple[str, int]) -> None:
    """The less strength, the nearer the picture is to its init image; it is the same whoever shares the batch."""
    client = await RawClient.connect(server, ALICE)
    first = picture_of(await client.hear_all(client.submit("a blue star on a yellow background", **FEW)))
    strengths = (0.25, 0.6, 1.0)
    wishes: list[dict[str, Any]] = [{"init_image": first, "strength": strength, **FEW} for strength in strengths]
    requests = [client.submit(PROMPT, progress=True, **wish) for wish in wishes]
    together = await client.hear_each([*requests, client.submit(PROMPT, solver="euler_a", **FEW)])
    painted = [pixels(picture_of(together[request])) for request in requests]
    distances = [np.abs(picture - pixels(first)).mean() for picture in painted]
    assert distances == sorted(distances)
    assert distances[0] < distances[2] / 2
    alone = await client.hear_all(client.submit(PROMPT, **wishes[1]))
    assert np.abs(pixels(picture_of(alone)) - painted[1]).max() <= 1
    totals = [
        {event.message.total_steps for event in together[request] if event.kind == "progress"}  # type: ignore[attr-defined]
        for request in requests
    ]
    assert totals == [{2}, {4}, {8}]
    ended: Any = together[requests[0]][-1].message
    job: Any = (await client.ask(get_job=pb.GetJob(job_id=ended.job_id))).message
    assert (job.strength, job.width, job.height) == (0.25, 128, 128)
    assert read_metadata(picture_of(together[requests[0]]))["strength"] == "0.25"
    await client.close()
