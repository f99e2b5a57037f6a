"""How the stream process is begun: its command line. What it inherits, `ai.custom.launching.environment` says: no secret."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")


def command(requests: int, answers: int, threads: int) -> list[str]:
    """With these two descriptors for pipes. -P: nothing that lies beside the file is a module of its own."""
    path = json.dumps([entry or os.getcwd() for entry in sys.path])
    return [sys.executable, "-P", str(CHILD), str(requests), str(answers), str(threads), path]
