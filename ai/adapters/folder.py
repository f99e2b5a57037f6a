"""Which adapters lie in a folder: each `NAME.safetensors` and each sub-folder `NAME` is one. Imports no torch.

Only what lies inside the folder counts: a link to elsewhere is left out, so that whoever may write here cannot have
other files of the machine read. What is left out is told in the log.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path

from ai.pickles import PICKLES
from ai.types import AdapterError

log = logging.getLogger(__name__)

SUFFIX = ".safetensors"
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
"""A name that needs no quoting on a command line, in a URL or in a log."""


def find_adapters(folder: Path) -> dict[str, Path]:
    """Name → path of every adapter in `folder`, by name. Nothing is opened. Raises AdapterError without such a folder."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise AdapterError(f"{folder}: cannot be listed: {error.strerror}") from error
    adapters: dict[str, Path] = {}
    for entry in entries:
        if entry.name.startswith(".") or not _looks_like_one(entry):
            continue
        name = entry.name.removesuffix(SUFFIX)
        problem = _problem(entry, name, folder)
        if name in adapters:
            problem = f"{adapters[name].name} has the same name"
        if problem:
            log.warning("adapters: %s is left out: %s", entry, problem)
        else:
            adapters[name] = entry
    return adapters


def lies_inside(path: Path, folder: Path) -> bool:
    """Whether `path`, all links followed, is something in `folder`."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links in a circle
        return False


def _looks_like_one(entry: Path) -> bool:
    return entry.is_dir() or entry.suffix == SUFFIX or entry.suffix in PICKLES


def _problem(entry: Path, name: str, folder: Path) -> str:
    if not lies_inside(entry, folder):
        return "it is a link that leaves the folder"
    if entry.suffix in PICKLES and not entry.is_dir():
        return f"{entry.suffix} files are pickles, which can run code; only {SUFFIX} is read"
    if not NAME.fullmatch(name):
        return "a name has 1 to 64 letters, digits, dots, _ and -"
    return ""
