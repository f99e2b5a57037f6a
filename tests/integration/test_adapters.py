"""Adapters over real TCP with the real engine: from a file in a folder to a picture that says what it wears."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from config import SettingsError, load_settings
from factory.service import make_service
from proto import atelier_pb2 as pb
from server.wire.connection import Received
from tests.ai.adapters.made import make, save_diffusers, save_kohya, save_peft
from tests.ai.tiny import build_folder
from tests.conftest import LOOP, start_reactor
from tests.integration.conftest import address_of, until_ready
from tests.integration.raw_client import RawClient, picture_of
from watermark import read_metadata

WISH: dict[str, Any] = {
    "width": 64, "height": 64, "num_inference_steps": 4, "guidance_scale": 3.0, "seed": 5, "inline_pictures": True,
}  # fmt: skip
PROMPT = "a red cat"


@pytest.fixture(scope="module")
def styled(reactor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    """A server of the tiny model, with adapters of its own and some in a folder for all models."""
    start_reactor()
    folder = tmp_path_factory.mktemp("styled")
    own, shared = build_folder(folder / "tiny") / "adapters", folder / "shared"
    own.mkdir()
    shared.mkdir()
    save_diffusers(make(seed=1), own / "glow")
    save_kohya(make(seed=2), own / "ink")
    save_peft(make(seed=3), shared / "chalk")
    (shared / "torn.safetensors").write_bytes(b"no adapter")
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="off",
        data_dir=folder / "data",
        models=f"tiny={folder / 'tiny'}",
        adapters_dir=shared,
    )
    service = make_service(settings, reactor)
    LOOP.run_until_complete(service.start())
    LOOP.run_until_complete(until_ready(address_of(service)))
    yield address_of(service)
    LOOP.run_until_complete(service.stop())


def use(name: str, scale: float | None = None) -> pb.AdapterUse:
    """A wish for one style."""
    return pb.AdapterUse(name=name, scale=scale)


def pixels(heard: list[Received]) -> NDArray[np.int16]:
    """The pixels of a request's picture."""
    assert heard[-1].kind == "result", heard[-1]
    return np.asarray(Image.open(BytesIO(picture_of(heard)))).astype(np.int16)


async def test_models_tell_their_adapters(styled: tuple[str, int]) -> None:
    """The model's own and everybody's, by name."""
    client = await RawClient.connect(styled)
    models: Any = (await client.ask(list_models=pb.ListModels())).message
    assert list(models.models[0].adapters) == ["chalk", "glow", "ink", "torn"]
    await client.close()


async def test_styles_together_equal_each_alone(styled: tuple[str, int]) -> None:
    """Whoever else is painted in whatever style, a picture is the one of its request alone; no two styles look alike."""
    client = await RawClient.connect(styled)
    wishes = [
        [], [use("glow", 0.8)], [use("ink")], [use("chalk", -1.0)], [use("ink", 0.5), use("glow", 0.5)], [use("ink", 0.0)],
    ]  # fmt: skip
    requests = [client.submit(PROMPT, adapters=adapters, **WISH) for adapters in wishes]
    together = await client.hear_each(requests)
    pictures = [pixels(together[request_id]) for request_id in requests]
    for adapters, picture in zip(wishes, pictures, strict=True):
        alone = await client.hear_all(client.submit(PROMPT, adapters=adapters, **WISH))
        assert np.abs(pixels(alone) - picture).max() <= 1, adapters
    assert np.abs(pictures[0] - pictures[5]).max() <= 1, "a scale of 0 is none"
    for first in range(5):
        for second in range(first):
            assert np.abs(pictures[first] - pictures[second]).max() > 3, (first, second)
    await client.close()


async def test_a_picture_and_its_job_say_what_they_wear(styled: tuple[str, int]) -> None:
    """Names and scales in the file's metadata, and in the job's record."""
    client = await RawClient.connect(styled)
    heard = await client.hear_all(client.submit(PROMPT, adapters=[use("ink", -0.25), use("glow")], **WISH))
    result: Any = heard[-1].message
    assert read_metadata(picture_of(heard))["adapters"] == "ink:-0.25, glow:1"
    job: Any = (await client.ask(get_job=pb.GetJob(job_id=result.job_id))).message
    assert [(worn.name, worn.scale) for worn in job.adapters] == [("ink", -0.25), ("glow", 1.0)]
    await client.close()


async def test_a_damaged_adapter_fails_its_own_job(styled: tuple[str, int]) -> None:
    """ADAPTER_INVALID, with the adapter's name and what is wrong with its file; a neighbour gets its picture."""
    client = await RawClient.connect(styled)
    bad = client.submit(PROMPT, adapters=[use("glow"), use("torn")], **WISH)
    good = client.submit(PROMPT, adapters=[use("glow")], **WISH)
    heard = await client.hear_each([bad, good])
    failed: Any = heard[bad][-1].message
    assert failed.error.code == pb.ADAPTER_INVALID
    assert failed.error.message.startswith("adapter torn: torn.safetensors: not a sound safetensors file")
    assert heard[good][-1].kind == "result"
    await client.close()


async def test_an_unknown_adapter_is_refused_with_those_there_are(styled: tuple[str, int]) -> None:
    """Nothing is looked up in the file system, whatever the name says."""
    client = await RawClient.connect(styled)
    for name in ("Glow", "../shared/torn", "glow/pytorch_lora_weights.safetensors", "\x00", "g" * 5000):
        answer = await client.ask(submit=pb.Submit(prompt=PROMPT, adapters=[use("ink"), use(name)]))
        error: Any = answer.message
        assert (error.code, error.field) == (pb.ADAPTER_NOT_FOUND, "adapters[1].name")
        assert error.limit == "the name of an adapter; tiny has chalk, glow, ink, torn"
        assert len(error.message) < 200
    await client.close()


def test_a_folder_of_adapters_that_is_not_there_stops_the_start(reactor: Any, tmp_path: Path) -> None:
    """With the setting's name."""
    settings = load_settings(adapters_dir=tmp_path / "nowhere", data_dir=tmp_path)
    with pytest.raises(SettingsError, match=r"ATELIER_ADAPTERS_DIR: .*nowhere: cannot be listed"):
        make_service(settings, reactor)
