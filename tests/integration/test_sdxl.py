"""Stable Diffusion XL with its refiner over real TCP with the real engine: a folder with a card becomes pictures."""

from __future__ import annotations

from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from config import load_settings
from factory.service import make_service
from proto import atelier_pb2 as pb
from tests.ai import oracle
from tests.ai.drive import a_request
from tests.ai.test_refiner import SWITCH, chained
from tests.ai.tiny_xl import build_base, build_refiner
from tests.conftest import LOOP, start_reactor
from tests.integration.conftest import address_of, until_ready
from tests.integration.raw_client import RawClient, picture_of

pytestmark = pytest.mark.filterwarnings(oracle.NUMPY_COPY_WARNING)

CARD = f"""
refiner = "../refiner"
refiner_switch = {SWITCH}

[defaults]
width = 64
height = 64
num_inference_steps = 6
guidance_scale = 4.0
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base model whose card names a refiner, and that."""
    folder = tmp_path_factory.mktemp("models")
    base, refiner = build_base(folder / "xl"), build_refiner(folder / "refiner")
    (base / "card.toml").write_text(CARD)
    return base, refiner


@pytest.fixture(scope="module")
def server(
    reactor: Any, folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """A server of that one model, with the solver in the words of the servers there were before."""
    start_reactor()
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="off",
        data_dir=tmp_path_factory.mktemp("data"),
        models=f"xl={folders[0]}",
        default_solver="dpm++",
    )
    service = make_service(settings, reactor)
    LOOP.run_until_complete(service.start())
    LOOP.run_until_complete(until_ready(address_of(service)))
    yield address_of(service)
    LOOP.run_until_complete(service.stop())


async def test_a_client_sees_one_model(server: tuple[str, int]) -> None:
    """The model that the setting names is listed with its family, and its refiner is not."""
    client = await RawClient.connect(server)
    models: Any = (await client.ask(list_models=pb.ListModels())).message
    painted = [model for model in models.models if model.model_type != "stream"]
    assert [(model.name, model.family, model.default_width) for model in painted] == [("xl", "sdxl", 64)]
    assert models.models[0].solvers[0] == "dpmpp_2m_karras"
    await client.close()


async def test_pictures_equal_diffusers(server: tuple[str, int], folders: tuple[Path, Path]) -> None:
    """Requests of defaults alone are painted by both models, as diffusers' two pipelines paint them
    with the scheduler of the default solver."""
    client = await RawClient.connect(server)
    requests = {seed: client.submit("a red cat", seed=seed, inline_pictures=True) for seed in (7, 8)}
    heard = await client.hear_each(list(requests.values()))
    for seed, request_id in requests.items():
        assert heard[request_id][-1].kind == "result", heard[request_id][-1]
        picture = np.asarray(Image.open(BytesIO(picture_of(heard[request_id])))).astype(int)
        wanted = chained(*folders, a_request(num_inference_steps=6, seed=seed, solver="dpmpp_2m_karras"), "pil")
        assert np.abs(picture - np.asarray(wanted).astype(int)).max() <= 1
    await client.close()
