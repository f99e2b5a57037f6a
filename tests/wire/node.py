"""The JavaScript client of tests/wire/node_client, with its libraries installed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "node_client"


def node_command() -> list[str]:
    """How to run the client in FOLDER; its arguments follow. Skips where Node is not installed."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        pytest.skip("node and npm are not installed: no client in another language to try")
    if not (FOLDER / "node_modules" / "protobufjs").is_dir():
        subprocess.run([npm, "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=300, capture_output=True)
    return [node, "client.js"]
