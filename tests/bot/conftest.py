"""A real server that paints at once, for all runs of bots: a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP = 0.005  # seconds; it makes twenty


@dataclass(frozen=True, slots=True)
class Quick:
    """Where it listens, and its process."""

    address: str
    pid: int
    http: str = ""


def start_quick(folder: Path, **settings: str) -> tuple[subprocess.Popen[str], Quick]:
    """`atelier serve` with a quick painter, its data in `folder`, once it listens."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
    environment = {
        **clean, "PYTHONPATH": str(ROOT), "ATELIER_TCP_LISTEN": "tcp:0:interface=127.0.0.1",
        "ATELIER_HTTP_LISTEN": "tcp:0:interface=127.0.0.1",
        "ATELIER_DATA_DIR": str(folder / "data"), "ATELIER_LOG_LEVEL": "ERROR", **settings,
    }  # fmt: skip
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.quick_node", str(STEP)],
            cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
    assert process.stdout is not None
    addresses = [process.stdout.readline().strip().rpartition(" ")[2] for _ in ("tcp", "http")]
    assert all(addresses), (folder / "server.log").read_text()
    return process, Quick(addresses[0], process.pid, addresses[1])


def end(process: subprocess.Popen[str]) -> None:
    """Kill it, whatever state it is in."""
    process.kill()
    process.communicate()


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Quick]:
    """The server of all tests that harm none."""
    process, server = start_quick(tmp_path_factory.mktemp("quick"), ATELIER_MAX_PENDING_JOBS_PER_OWNER="40")
    yield server
    end(process)
