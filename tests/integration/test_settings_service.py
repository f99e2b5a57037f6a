"""One node hands out settings, others start from them: while it is there, when it is dead, and when it says what they cannot use.

Every node is a process of its own; the painter is a quick one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from proto import atelier_pb2 as pb
from tests.integration.eventually import until
from tests.integration.raw_client import RawClient
from tests.integration.served import LISTEN, ROOT, serving, start
from tests.integration.test_processes import several

NODE = ("tests.integration.quick_node", "0.01")
SECRET = "s3cret-of-thirty-two-characters!"
FILES = {
    "base.toml": 'SECRET_KEY = { from = "environment" }\nATELIER_MAX_FRAME_BYTES = 2097152\n',
    "groups/gpu.toml": "MAX_STEPS = 77\nMAX_WIDTH = 1536\n",
    "instances/gpu-1.toml": 'group = "gpu"\nMAX_WIDTH = 1792\n',
}


class Keeper:
    """A node that hands out a folder; `key` is what others ask with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.key = ""
        self.process: asyncio.subprocess.Process | None = None

    def write(self, files: Mapping[str, str]) -> None:
        """Into what it hands out."""
        for name, text in files.items():
            path = self.folder / "settings" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    async def start(self, port: int = 0) -> None:
        """Until it listens."""
        process = self.process = await start(
            self.folder, module=NODE,
            ATELIER_TCP_LISTEN="tcp:0:interface=127.0.0.1", ATELIER_HTTP_LISTEN=f"tcp:{port}:interface=127.0.0.1",
            ATELIER_SETTINGS_DIR=str(self.folder / "settings"),
        )  # fmt: skip
        assert process.stdout is not None
        lines = [(await process.stdout.readline()).decode() for _ in range(2)]
        self.url = lines[1].strip().rpartition(" ")[2]

    async def atelier(self, *words: str) -> str:
        """What a command beside it prints."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "atelier", *words,
            cwd=self.folder, env={**clean, "PYTHONPATH": str(ROOT), "ATELIER_DATA_DIR": str(self.folder / "data")},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode().strip()

    async def kill(self) -> None:
        """All at once."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.communicate()

    def asked_by(self, **given: str) -> dict[str, str]:
        """The environment of a node that asks it."""
        return {
            "ATELIER_SETTINGS_URL": self.url,
            "ATELIER_SETTINGS_KEY": self.key,
            "ATELIER_SETTINGS_TIMEOUT": "20",
            "SECRET_KEY": SECRET,
            **given,
        }


@asynccontextmanager
async def keeper(folder: Path) -> AsyncIterator[Keeper]:
    """One with an admin, and a key for nodes."""
    made = Keeper(folder)
    made.write(FILES)
    try:
        await made.start()
        password = await made.atelier("users", "create", "grace", "grace@example.org", "--role", "admin")
        async with httpx.AsyncClient(base_url=made.url, timeout=60) as client:
            login = await client.post("/v1/auth/token", json={"username": "grace", "password": password})
            headers = {"authorization": f"Bearer {login.json()['access_token']}"}
            new = await client.post("/v1/keys", json={"name": "nodes", "scopes": ["settings"]}, headers=headers)
        made.key = new.json()["key"]
        yield made
    finally:
        await made.kill()


async def told(address: tuple[str, int]) -> tuple[Any, str]:
    """A node's limits, and where it says that its settings come from."""
    peer = await RawClient.connect(address, None)
    peer.say(hello=pb.Hello(protocol_version=1, client_name="test"))
    welcome: Any = (await peer.hear()).message
    peer.say(get_server_status=pb.GetServerStatus())
    status: Any = (await peer.hear()).message
    await peer.close()
    return welcome.limits, status.settings


async def test_a_node_starts_from_the_service_and_again_when_that_is_dead(tmp_path: Path) -> None:
    """Its settings are its instance's over its group's over the base, the environment's over them; the second time they are those
    of the first, and it says so. Its copy is for its own eyes, and has no secret in it."""
    folder = tmp_path / "node"
    for made in (folder, tmp_path / "keeper"):
        made.mkdir()
    async with keeper(tmp_path / "keeper") as keeping:
        asking = keeping.asked_by(ATELIER_SETTINGS_INSTANCE="gpu-1", ATELIER_SETTINGS_GROUP="gpu", MAX_HEIGHT="640")
        async with serving(folder, module=NODE, **asking) as node:
            limits, source = await told(node.address)
            first = (limits.max_width, limits.max_height, limits.max_num_inference_steps, limits.max_frame_bytes)
            assert first == (1792, 640, 77, 2097152)
            assert source == "settings service, instances/gpu-1"
            copy = folder / "data" / "settings" / "instances-gpu-1.json"
            await until(copy.exists)
            node.signal(signal.SIGTERM)
            status, log = await node.ended()
            assert (status, "settings.fetched" in log) == (0, True)
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
        assert SECRET not in copy.read_text()
        assert keeping.key not in copy.read_text() + log
        await keeping.kill()
    async with serving(folder, module=NODE, **asking) as node:
        limits, source = await told(node.address)
        assert (limits.max_width, limits.max_height, limits.max_num_inference_steps, limits.max_frame_bytes) == first
        assert source.startswith("last good copy, of 20")
        node.signal(signal.SIGTERM)
        _, log = await node.ended()
        assert "settings.last_good" in log
        assert "refused" in log
    process = await start(folder, module=NODE, **LISTEN, **{**asking, "ATELIER_SETTINGS_INSTANCE": "gpu-2"})
    _, err = await process.communicate()
    assert process.returncode == 2
    assert b"of a last good copy: there is none" in err


async def test_what_the_service_may_not_or_cannot_give_is_said(tmp_path: Path) -> None:
    """A key that is none, a group that there is not, a secret that the node does not have: status 2 and the reason, where there
    is no copy; a folder that is broken meanwhile is handed out as it was."""
    (tmp_path / "keeper").mkdir()
    async with keeper(tmp_path / "keeper") as keeping:
        asking = keeping.asked_by(ATELIER_SETTINGS_GROUP="gpu")
        for number, (given, says) in enumerate(
            (
                ({"ATELIER_SETTINGS_KEY": "atl_no-such-key-at-all-00000000"}, "status 401: UNAUTHENTICATED"),
                ({"ATELIER_SETTINGS_GROUP": "gpus"}, "one of gpu, not 'groups/gpus'"),
                ({"SECRET_KEY": ""}, "ATELIER_SECRET_KEY: it is left to this node's own environment"),
            )
        ):
            folder = tmp_path / f"refused{number}"
            folder.mkdir()
            process = await start(folder, module=NODE, **LISTEN, **{**asking, **given})
            _, err = await process.communicate()
            assert (process.returncode, says in err.decode()) == (2, True), err.decode()
        keeping.write({"groups/gpu.toml": "MAX_STEPS = 0\n"})
        folder = tmp_path / "node"
        folder.mkdir()
        async with serving(folder, module=NODE, **asking) as node:
            limits, source = await told(node.address)
            assert (limits.max_num_inference_steps, source) == (77, "settings service, groups/gpu")


async def test_several_processes_take_their_settings_anew_when_they_are_replaced(tmp_path: Path) -> None:
    """SIGHUP, after a change of the folder: nobody has to log in on any node."""
    (tmp_path / "keeper").mkdir()
    (tmp_path / "node").mkdir()
    async with (
        keeper(tmp_path / "keeper") as keeping,
        several(tmp_path / "node", **keeping.asked_by(ATELIER_SETTINGS_GROUP="gpu")) as server,
    ):
        _, host, port = server.address.split(":")
        address = (host, int(port))
        assert (await told(address))[0].max_num_inference_steps == 77
        keeping.write({"groups/gpu.toml": "MAX_STEPS = 88\n"})
        server.process.send_signal(signal.SIGHUP)
        await until(lambda: "processes.rolled" in server.log)
        assert (await told(address))[0].max_num_inference_steps == 88
        server.process.send_signal(signal.SIGTERM)
        await server.process.wait()
        assert server.log.count("settings.fetched") == 5
