"""How a custom model's process is begun: its command line, and the little that it inherits."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

KEEPER = Path(__file__).with_name("keeper.py")

# Where programs and the user's own folders are, and how text and time are written. Secrets come by other names.
_PASSED = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONDONTWRITEBYTECODE")

# No GPU: what a model takes there is in nobody's budget. OpenMP's threads sleep while they wait, as the server's own do.
_SET = {"CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "passive", "TOKENIZERS_PARALLELISM": "false"}


def environment(of: Mapping[str, str], named: Sequence[str] = ()) -> dict[str, str]:
    """What of the server's environment a model's process is given: the usual, and what an operator has `named`."""
    return _SET | {name: of[name] for name in (*_PASSED, *named) if name in of}


def command(memory_limit: int, requests: int, answers: int) -> list[str]:
    """Runs a keeper and its model, with these two descriptors for pipes, as a child of this process.

    The model finds modules where this process does. -P: nothing that lies beside the keeper's file is a module of its own.
    """
    path = json.dumps([entry or os.getcwd() for entry in sys.path])
    return [sys.executable, "-P", str(KEEPER), str(os.getpid()), str(memory_limit), str(requests), str(answers), path]
