"""kill -9 loses nothing: whenever the server dies, each accepted job has one end, and its pictures are there."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
import socket
import sqlite3
import sys
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from bot.client import Client
from bot.errors import CannotConnectError
from bot.events import Outcome
from bot.jobs import JobHandle
from bot.patience import Patience
from server.events import TerminalEvent
from tests.integration.crashing import MOMENTS, NEVER
from tests.integration.served import ROOT
from tests.postgres import PostgresServer

JOBS_A_LIFE = 4
SIZE = 64


class Lives:
    """A server on one port and one folder, started again and again."""

    def __init__(self, folder: Path, **environment: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._folder = folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        self._environment = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "ATELIER_TCP_LISTEN": f"tcp:{self.port}:interface=127.0.0.1",
            "ATELIER_HTTP_LISTEN": "off",
            "ATELIER_DATA_DIR": str(folder / "data"),
            **environment,
        }

    async def start(self, moment: str, nth: int) -> asyncio.subprocess.Process:
        """Gives the process as soon as it has begun."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.integration.crashing", moment, str(nth),
            cwd=self._folder, env=self._environment,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip


async def _submitted(client: Client, seed: int) -> JobHandle:
    return await client.submit(f"picture {seed}", seed=seed, num_images=2, width=SIZE, height=SIZE, progress=True)


async def _ends(handle: JobHandle) -> list[TerminalEvent]:
    return [event async for event in handle.events() if isinstance(event, TerminalEvent)]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> dict[str, str]:
    """Settings of each kind."""
    if request.param == "sqlite":
        return {}
    postgres: PostgresServer = request.getfixturevalue("postgres")
    postgres.sql("DROP DATABASE IF EXISTS crashes WITH (FORCE)")
    postgres.sql("CREATE DATABASE crashes")
    return {"DATABASE_URL": postgres.url("crashes")}


async def test_whenever_it_is_killed_no_accepted_job_is_lost(
    reactor: Any, tmp_path: Path, database: dict[str, str]
) -> None:
    """Each moment once, in seeded order; one client stays, and sees each of its jobs end once with the right pictures."""
    lives = Lives(tmp_path, **database)
    chance = random.Random(20261121)
    moments = [moment for moment in MOMENTS if moment != "taken up"]
    chance.shuffle(moments)
    moments.insert(moments.index("admitted") + 1, "taken up")  # which leaves at least one job to take up
    client: Client | None = None
    jobs: list[asyncio.Future[JobHandle]] = []
    for life, moment in enumerate(moments):
        # What is taken up comes once a life; of the others each new job brings at least one.
        process = await lives.start(moment, 1 if moment == "taken up" else chance.randint(1, JOBS_A_LIFE))
        if client is None:
            client = await _first_connection(reactor, lives.port)
        seeds = range(life * 10, life * 10 + JOBS_A_LIFE)
        jobs += [asyncio.ensure_future(_submitted(client, seed)) for seed in seeds]
        _, logged = await process.communicate()
        assert process.returncode == -signal.SIGKILL, (moment, logged.decode())
    assert client is not None
    process = await lives.start(NEVER, 1)
    handles = [await job for job in jobs]
    ends = [await _ends(handle) for handle in handles]
    outcomes: list[Outcome] = [await handle.result() for handle in handles]
    assert all(len(told) == 1 for told in ends)
    assert len({handle.job_id for handle in handles}) == len(jobs), "one key is one job"
    for handle, outcome in zip(handles, outcomes, strict=True):
        assert [artifact.seed for artifact in outcome.artifacts] == [handle.seed, handle.seed + 1]
        for artifact in outcome.artifacts:
            png = (tmp_path / "data" / "artifacts" / artifact.key).read_bytes()
            assert hashlib.sha256(png).hexdigest() == artifact.sha256
            grey = artifact.seed % 256
            assert Image.open(BytesIO(png)).getcolors() == [(SIZE * SIZE, (grey, grey, grey))]
    await client.close()
    process.send_signal(signal.SIGTERM)
    _, logged = await process.communicate()
    assert process.returncode == 0, logged.decode()
    assert "Traceback" not in logged.decode()
    if not database:
        with sqlite3.connect(tmp_path / "data" / "atelier.db") as records:
            states = records.execute("SELECT state, count(*) FROM jobs GROUP BY state").fetchall()
        assert states == [("succeeded", len(jobs))], "none is left over, and none was made twice"


async def _first_connection(reactor: Any, port: int) -> Client:
    patience = Patience(first_wait=0.05, longest_wait=0.2, reconnect_for=110.0)
    client = Client(reactor, f"tcp:127.0.0.1:{port}", patience=patience, tell=lambda text, attempt: None)
    while True:
        try:
            await client.connect()
        except CannotConnectError:
            await asyncio.sleep(0.05)  # it does not listen yet; nothing depends on the pace
        else:
            return client
