"""`atelier serve`: the real server as a child process."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from atelier.child import ChildServer, ServerDied, clean_environment
from atelier.serve import Serving
from factory.supervisor import NotStarted
from tests.atelier.command import Command, run
from tests.bot.fake_server import FakeServer


async def test_it_says_where_it_listens_and_ends_on_ctrl_c(tmp_path: Path) -> None:
    """One line a door on stdout; SIGINT, even twice, ends it with status 0."""
    command = await Command.start(
        "serve",
        cwd=tmp_path,
        ATELIER_TCP_LISTEN="tcp:0:interface=127.0.0.1",
        ATELIER_HTTP_PORT="0",
        ATELIER_DATA_DIR=str(tmp_path),
    )
    line = await command.line()
    assert line.startswith("listening on tcp:127.0.0.1:"), await command.ended()
    assert (await command.line()).startswith("listening on http://127.0.0.1:")
    assert (await command.line()).startswith("listening on udp:127.0.0.1:")
    asked = await run("status", "--json", ATELIER_SERVER=line.removeprefix("listening on "))
    assert json.loads(asked.out)["state"] in ("LOADING", "READY")
    command.interrupt()
    await command.says("SIGINT: stopping")
    command.interrupt()
    ended = await command.ended()
    assert (ended.status, ended.out) == (0, "")
    assert "Traceback" not in ended.err


class Endless:
    """A service that starts until it is abandoned."""

    live_jobs = 0

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._abandoned = asyncio.Event()

    async def start(self) -> None:
        await self._abandoned.wait()
        raise NotStarted("it was told to stop")

    def abandon(self) -> None:
        self._abandoned.set()

    async def stop(self) -> None:
        raise AssertionError("it has not started")


class Stopped:
    """A reactor that is asked to stop."""

    def stop(self) -> None:
        """It is about to."""


async def test_a_signal_ends_a_start_that_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    """With status 0, and no word of anything that is wrong."""
    serving = Serving(Stopped(), Endless())
    serving._starting = asyncio.ensure_future(serving._start())
    await asyncio.sleep(0)
    serving._signalled(signal.SIGTERM)
    await asyncio.wait_for(serving._end(), 10)
    assert serving.status == 0
    assert "cannot start" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ATELIER_NONSENSE", "1"),
        ("ATELIER_MAX_BATCH", "none"),
        ("ATELIER_TCP_LISTEN", "tcp:nine"),
        ("ATELIER_TCP_LISTEN", "tcp:9000"),
    ],
)
async def test_a_setting_that_does_not_fit_is_named(tmp_path: Path, name: str, value: str) -> None:
    """Status 2, and the variable on stderr."""
    command = await Command.start("serve", cwd=tmp_path, **{"ATELIER_DATA_DIR": str(tmp_path), name: value})
    ended = await command.ended()
    assert (ended.status, ended.out) == (2, "")
    assert name in ended.err
    assert "Traceback" not in ended.err


async def test_an_address_in_use_is_told(reactor: Any, tmp_path: Path) -> None:
    """Status 1, and one clear line."""
    async with FakeServer(reactor) as server:
        listen = f"tcp:{server.number}:interface=127.0.0.1"
        command = await Command.start("serve", cwd=tmp_path, ATELIER_TCP_LISTEN=listen, ATELIER_DATA_DIR=str(tmp_path))
        ended = await command.ended()
    assert (ended.status, ended.out) == (1, "")
    assert "cannot listen" in ended.err
    assert "Address already in use" in ended.err
    assert "Traceback" not in ended.err


def test_the_demo_leaves_settings_aside() -> None:
    """No setting by any of its names reaches the demo's server; everything else does."""
    environment = {"PATH": "/bin", "ATELIER_DEVICE": "cuda", "ATELIER_TOKEN": "t", "DEVICE": "cuda", "MODEL_ID": "x"}
    assert clean_environment(environment) == {"PATH": "/bin"}


async def test_a_child_server_listens_and_is_stopped(tmp_path: Path) -> None:
    """The context is a server on a free port, in a folder of its own."""
    async with ChildServer(tmp_path) as server:
        asked = await run("models", "--json", ATELIER_SERVER=server.address)
        assert json.loads(asked.out)["models"][0]["name"] == "demo"
    asked = await run("status", ATELIER_SERVER=server.address)
    assert "cannot connect" in asked.err


async def test_a_child_server_that_dies_shows_its_last_words(tmp_path: Path) -> None:
    """What it said on stderr is in the error."""
    (tmp_path / ".env").write_text("ATELIER_NONSENSE=1\n")
    with pytest.raises(ServerDied, match="ATELIER_NONSENSE"):
        async with ChildServer(tmp_path):
            raise AssertionError
