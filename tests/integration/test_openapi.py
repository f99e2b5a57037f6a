"""Every route of the HTTP door against /openapi.json: Schemathesis, with all of its checks, at a server that paints at once."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config import load_settings
from factory import service as built
from factory.gpu import EngineThreads
from factory.service import make_service
from tests.conftest import LOOP, start_reactor
from tests.quick_painter import paint_quickly

TOKEN = "schema-token-0123456789"
BUDGET = 60  # seconds for what is made by chance; the rest is the same at each run
STATEFUL_BUDGET = 30
CONFIG = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def base(reactor: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a server listens for HTTP."""
    start_reactor()
    paint_quickly(0.001)
    settings = load_settings(
        tcp_listen="tcp:0:interface=127.0.0.1",
        http_listen="tcp:0:interface=127.0.0.1",
        tokens=f"schema:{TOKEN}",
        data_dir=tmp_path_factory.mktemp("openapi"),
    )
    service = make_service(settings, reactor)
    LOOP.run_until_complete(service.start())
    yield service.addresses[1]
    LOOP.run_until_complete(service.stop())
    whole: Any = built
    whole.EngineThreads = EngineThreads


async def tried(base: str, folder: Path, *how: str, seconds: int) -> str:
    """What Schemathesis says when it has found nothing; fails with that where it has."""
    process = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("st")),
        f"--config-file={CONFIG}",
        "run",
        f"{base}/openapi.json",
        f"--header=Authorization: Bearer {TOKEN}",
        *how,
        "--seed=1",
        "--generation-deterministic",
        "--continue-on-failure",
        "--no-shrink",
        "--no-color",
        "--request-timeout=20",
        f"--max-time={seconds}",
        cwd=folder,
        stdout=PIPE,
        stderr=STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 4 * seconds + 60)
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.slow
async def test_every_route_does_as_it_is_described(base: str, tmp_path: Path) -> None:
    """No 5xx, no status, header or body that is not described, nothing taken that is described as wrong; the same each time."""
    await tried(base, tmp_path, "--phases=examples,coverage,fuzzing", "--max-examples=5", seconds=BUDGET)


@pytest.mark.slow
async def test_what_is_created_is_there_under_what_it_is_called(base: str, tmp_path: Path) -> None:
    """By the links of the description: from a job, a batch or a prediction to looking at it, its events and its cancel."""
    said = await tried(base, tmp_path, "--phases=stateful", "--max-examples=30", seconds=STATEFUL_BUDGET)
    links = re.search(r"API Links: +(\d+) covered / \d+ selected", said)
    assert links, said
    assert int(links[1]) >= 10, said
