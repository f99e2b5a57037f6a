from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from tests.wire.fake_server import CHUNK_BYTES, PICTURE, STEPS, TOKEN, FakeServer
from tests.wire.node import FOLDER, node_command

Client = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture(scope="module")
def client() -> Client:
    """Runs the JavaScript client with its libraries installed, and gives its exit status and what it saw."""
    command = node_command()

    def run(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = subprocess.run(
            [*command, *arguments], cwd=FOLDER, timeout=60, capture_output=True, text=True, check=False
        )
        assert done.stderr == ""
        (line,) = done.stdout.splitlines()
        return done.returncode, json.loads(line)

    return run


def test_node_client_paints(client: Client) -> None:
    """A client in JavaScript, written from the proto file, shakes hands, submits, and assembles the picture."""
    with FakeServer() as server:
        status, seen = client("127.0.0.1", str(server.port), TOKEN, "a lighthouse")
    assert "error" not in seen
    assert status == 0
    assert (seen["owner"], seen["job_id"], seen["progress"]) == ("ada", "job-1", STEPS)
    assert seen["events"] == ["welcome", "accepted", *["progress"] * STEPS, *["chunk"] * 3, "result"]
    assert seen["event_numbers"] == [1, 2, 3, 4, 5]
    assert seen["chunk_sizes"] == [CHUNK_BYTES, CHUNK_BYTES, len(PICTURE) - 2 * CHUNK_BYTES]
    assert seen["sha256"] == seen["result_sha256"] == hashlib.sha256(PICTURE).hexdigest()
    assert server.heard == ["hello", "submit"]


def test_node_client_is_refused(client: Client) -> None:
    """The client tells a refused token by the code's name, and fails."""
    with FakeServer() as server:
        status, seen = client("127.0.0.1", str(server.port), "wrong", "a lighthouse")
    assert status == 1
    assert seen["error"].startswith("UNAUTHENTICATED token")
