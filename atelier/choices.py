"""What a person may write for an option, and what it says. Raises typer.BadParameter, which names the option."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer


class MarkPosition(StrEnum):
    """Where a signature stands."""

    TOP_LEFT = "top-left"
    TOP_CENTER = "top-center"
    TOP_RIGHT = "top-right"
    BOTTOM_LEFT = "bottom-left"
    BOTTOM_CENTER = "bottom-center"
    BOTTOM_RIGHT = "bottom-right"


class MarkSize(StrEnum):
    """How large a signature is."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class SumBy(StrEnum):
    """What usage is added up by."""

    DAY = "day"
    MODEL = "model"
    OWNER = "owner"


def size(text: str) -> tuple[int, int]:
    """Width and height from "512x768"."""
    match = re.fullmatch(r"(\d{1,5})[x×](\d{1,5})", text.strip().lower())
    if match is None:
        raise typer.BadParameter(f"must be WIDTHxHEIGHT such as 512x768, not {text!r}", param_hint="--size")
    return int(match[1]), int(match[2])


def adapter(text: str) -> tuple[str, float]:
    """Name and scale from "ukiyo-e:0.8" or "ukiyo-e"; a colon that no number follows belongs to the name."""
    name, colon, written = text.rpartition(":")
    if not colon:
        return _named(text), 1.0
    try:
        scale = float(written)
    except ValueError:
        return _named(text), 1.0
    if not math.isfinite(scale):
        raise typer.BadParameter(f"the scale must be a finite number, not {written!r}", param_hint="--adapter")
    return _named(name), scale


def named_inputs(words: Sequence[str]) -> dict[str, Any]:
    """Inputs of a model from "temperature=0.5", "stop=[\".\"]", "prompt=once": what is no JSON is a text."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"must be NAME=VALUE, not {word!r}", param_hint="--input")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def content(path: Path, option: str) -> bytes:
    """What a file holds."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint=option) from None


def _named(name: str) -> str:
    if not name.strip():
        raise typer.BadParameter("must be NAME or NAME:SCALE", param_hint="--adapter")
    return name
