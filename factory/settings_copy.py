"""The settings that a node last started with, as another node handed them out: a file of its own in the data folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = "settings"  # in the data folder
FORM = 1
MOST = 2 << 20  # bytes; an answer has one at most


class NoCopy(Exception):
    """There is none that can be used; the text says why."""


@dataclass(frozen=True, slots=True)
class Copy:
    """What was handed out, `path` being what was asked for, and when that was (ISO 8601)."""

    path: str
    fetched_at: str
    answer: Mapping[str, Any]


def place_of(data_dir: Path, path: str) -> Path:
    """Where the copy of a path lies; processes that share a folder may have settings of their own each."""
    return data_dir / FOLDER / f"{path.replace('/', '-')}.json"


def read_copy(data_dir: Path, path: str) -> Copy:
    """The copy of a path. Raises NoCopy."""
    place = place_of(data_dir, path)
    try:
        with place.open("rb") as file:
            read = file.read(MOST + 1)
    except FileNotFoundError:
        raise NoCopy(f"there is none at {place}") from None
    except OSError as error:
        raise NoCopy(f"{place}: {error.strerror or error}") from None
    try:
        told = json.loads(read)
        copy = Copy(str(told["path"]), str(told["fetched_at"]), dict(told["answer"]))
        sound = told["form"] == FORM and told["sha256"] == _digest(copy)
    except (ValueError, TypeError, KeyError, RecursionError):
        sound = False
    if not sound or copy.path != path:
        raise NoCopy(f"{place} is damaged")
    return copy


def keep_copy(data_dir: Path, copy: Copy) -> None:
    """Put it in the place of the one before, whole or not at all, for this user's eyes alone. Raises OSError."""
    place = place_of(data_dir, copy.path)
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    told = {
        "form": FORM,
        "path": copy.path,
        "fetched_at": copy.fetched_at,
        "sha256": _digest(copy),
        "answer": copy.answer,
    }
    mine = place.with_name(f"{place.name}.{os.getpid()}")
    try:
        with open(os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(json.dumps(told, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        mine.replace(place)
    finally:
        mine.unlink(missing_ok=True)
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digest(copy: Copy) -> str:
    whole = json.dumps([copy.path, copy.fetched_at, copy.answer], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()
