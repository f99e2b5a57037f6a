"""What a stream model's folder says of it: `manifest.toml` beside `model.pt2`. Plain Python.

    name = "stream-demo"
    description = "..."
    inputs = ["jaw_open", "smile_left"]     # a number each; or instead: image = [height, width] in pixels
    outputs = ["joy", "anger"]              # a number each
    state = 32                              # numbers that a session carries from tick to tick; 0: none
    tick_hz = 30                            # how often a second it runs

The program takes (inputs, state, dt) and gives (values, state), all of them float32 with the batch first:

    inputs   [B, len(inputs)], or [B, 3, height, width] with 0 to 1 for red, green and blue
    state    [B, state]    zeros at a session's first frame
    dt       [B]           seconds since the frame before; 0 at a session's first
    values   [B, len(outputs)]

Whether it does is found out by running it (`ai.live.program`), not believed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST, PROGRAM = "manifest.toml", "model.pt2"
MAX_NAMES = 1024  # inputs, and outputs: a face has 52, a body a few hundred
MAX_IMAGE = 512  # pixels of a side: 200 sessions of more are no work for a tick
MAX_STATE = 65_536  # numbers a session: 256 KiB
MAX_TICK_HZ = 240.0  # the fastest displays
_KEYS = frozenset({"name", "description", "inputs", "image", "outputs", "state", "tick_hz"})


class ManifestError(Exception):
    """A folder that holds no stream model: the text names the file and what is wrong in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """`folder` holds the program. `inputs` are empty where it takes an image, of `height` by `width` pixels."""

    name: str
    folder: Path
    description: str = ""
    inputs: tuple[str, ...] = ()
    height: int = 0
    width: int = 0
    outputs: tuple[str, ...]
    state: int = 0
    tick_hz: float = 30.0

    @property
    def program(self) -> Path:
        """The file."""
        return self.folder / PROGRAM

    @property
    def input_bytes(self) -> int:
        """Of one row as it is packed: float32 numbers, or an image's bytes."""
        return 4 * len(self.inputs) if self.inputs else 3 * self.height * self.width


def read_manifest(folder: Path) -> Manifest:
    """Raises ManifestError."""
    path = folder / MANIFEST
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: {error}") from None
    if not (folder / PROGRAM).is_file():
        raise ManifestError(f"{folder / PROGRAM} is not there")
    try:
        return _checked(folder, document)
    except ManifestError as error:
        raise ManifestError(f"{path}: {error}") from None


def read_manifests(folder: Path) -> list[Manifest]:
    """Of every folder in `folder` that has a manifest, by name. Raises ManifestError, also for two of one name."""
    found: dict[str, Manifest] = {}
    try:
        folders = sorted(path.parent for path in folder.glob(f"*/{MANIFEST}")) if folder.is_dir() else None
    except OSError as error:
        raise ManifestError(f"{folder}: {error}") from None
    if folders is None:
        raise ManifestError(f"{folder} is no folder")
    for each in folders:
        manifest = read_manifest(each)
        if manifest.name in found:
            raise ManifestError(f"{each} and {found[manifest.name].folder} are both called {manifest.name!r}")
        found[manifest.name] = manifest
    return list(found.values())


def _checked(folder: Path, document: Mapping[str, Any]) -> Manifest:
    if unknown := sorted(document.keys() - _KEYS):
        raise ManifestError(f"{unknown[0]}: no manifest has that; it may have {', '.join(sorted(_KEYS))}")
    image = "image" in document
    if image == ("inputs" in document):
        raise ManifestError("inputs: either inputs or image must be there, and not both")
    height, width = _size(document["image"]) if image else (0, 0)
    return Manifest(
        name=_text(document, "name", 64),
        folder=folder,
        description=_text(document, "description", 1000, ""),
        inputs=() if image else _names(document, "inputs"),
        height=height,
        width=width,
        outputs=_names(document, "outputs"),
        state=int(_number(document, "state", 0, 0, MAX_STATE, whole=True)),
        tick_hz=_number(document, "tick_hz", 30.0, 1.0, MAX_TICK_HZ),
    )


def _text(document: Mapping[str, Any], key: str, longest: int, default: str | None = None) -> str:
    value = document.get(key, default)
    if not isinstance(value, str) or len(value) > longest or (default is None and not value.strip()):
        raise ManifestError(f"{key}: must be a text of at most {longest} characters")
    return value


def _names(document: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = document.get(key)
    if not isinstance(names, list) or not 1 <= len(names) <= MAX_NAMES:
        raise ManifestError(f"{key}: must be 1 to {MAX_NAMES} names")
    if any(not isinstance(name, str) or not 1 <= len(name) <= 64 for name in names):
        raise ManifestError(f"{key}: each name must be a text of 1 to 64 characters")
    if len(set(names)) < len(names):
        raise ManifestError(f"{key}: a name stands there twice")
    return tuple(names)


def _size(value: Any) -> Sequence[int]:
    if (
        not isinstance(value, list)
        or len(value) != 2
        or any(type(side) is not int or not 1 <= side <= MAX_IMAGE for side in value)
    ):
        raise ManifestError(f"image: must be [height, width], 1 to {MAX_IMAGE} pixels each")
    return value


def _number(
    document: Mapping[str, Any], key: str, default: float, low: float, high: float, *, whole: bool = False
) -> float:
    value = document.get(key, default)
    fits = type(value) is int or (type(value) is float and not whole)
    if not fits or not low <= value <= high:
        raise ManifestError(f"{key}: must be {'a whole number ' if whole else ''}{low:g} to {high:g}, not {value!r}")
    return float(value)
