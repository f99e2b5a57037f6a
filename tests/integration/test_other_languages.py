"""A client generated for another runtime drives the server: protobufjs on Node (tests/wire/node_client)."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import ALICE

FOLDER = Path(__file__).parent.parent / "wire" / "node_client"


async def run(*command: str) -> tuple[int, str]:
    """Run a program in the client's folder; its exit status and what it printed."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=FOLDER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


@pytest.mark.skipif(not shutil.which("node") or not shutil.which("npm"), reason="node or npm is not installed")
async def test_a_node_client_gets_a_whole_picture(server: tuple[str, int]) -> None:
    """A program written from proto/atelier.proto alone says Hello, submits, sees progress and checks its picture's hash."""
    status, output = await run("npm", "ci", "--no-audit", "--no-fund", "--silent")
    assert status == 0, output
    host, port = server
    status, output = await run("node", "client.js", host, str(port), ALICE, "a yellow star on a blue background")
    assert status == 0, output
    seen: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    assert seen["owner"] == "alice"
    assert seen["progress"] >= 2
    assert seen["events"][0] == "accepted"
    assert seen["events"][-1] == "result"
    assert seen["sha256"] == seen["result_sha256"]
    assert max(seen["chunk_sizes"]) <= 256 * 1024
