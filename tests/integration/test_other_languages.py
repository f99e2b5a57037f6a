"""A client generated for another runtime drives the server: protobufjs on Node (tests/wire/node_client)."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.integration.conftest import ALICE
from tests.wire.node import FOLDER, node_command


async def test_a_node_client_gets_a_whole_picture(server: tuple[str, int]) -> None:
    """A program written from proto/atelier.proto alone says Hello, submits, sees progress and checks its picture's hash."""
    host, port = server
    client = await asyncio.create_subprocess_exec(
        *node_command(), host, str(port), ALICE, "a yellow star on a blue background",
        cwd=FOLDER, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await client.communicate()
    assert client.returncode == 0, output
    seen: dict[str, Any] = json.loads(output)
    assert seen["owner"] == "alice"
    assert seen["progress"] >= 2
    assert seen["events"][:2] == ["welcome", "accepted"]
    assert seen["events"][-1] == "result"
    assert seen["sha256"] == seen["result_sha256"]
    assert max(seen["chunk_sizes"]) <= 256 * 1024
