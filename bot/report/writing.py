"""Bringing a run's record and page to disk. What does not fit there is said, and the record of the run is not lost with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bot.errors import ClientError
from bot.report.page import page_of


class CannotWrite(ClientError):
    """The report is not on disk. The text says why, and what to change."""


def prepare(folder: Path) -> None:
    """Make the folder before the run, so that a mistake is told at once. Raises CannotWrite."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CannotWrite(f"--out {folder}: {error.strerror}; give a folder that can be written to") from None


def write(folder: Path, name: str, record: dict[str, Any]) -> tuple[Path, Path]:
    """The JSON, then the page. Raises CannotWrite."""
    paths = folder / f"{name}.json", folder / f"{name}.html"
    write_text(paths[0], json.dumps(record, ensure_ascii=False))
    write_text(paths[1], page_of(record))
    return paths


def write_text(path: Path, text: str) -> None:
    """A file; none is left half written. Raises CannotWrite."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        _remove(path)
        size = len(text.encode()) / 1e6
        raise CannotWrite(
            f"the report could not be written to {path}: {error.strerror}. It has {size:.1f} MB: make room there, or give --out "
            "another folder; what the run saw stands above"
        ) from None


def _remove(path: Path) -> None:
    if path.is_file() and not path.is_symlink():
        path.unlink(missing_ok=True)
