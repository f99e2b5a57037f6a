"""Where a model's weights are, and the refusal of files that could run code. Looks at names only, loads nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

from ai.pickles import PICKLES
from ai.types import ModelLoadError

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class SourceKind(StrEnum):
    """What `ModelCard.source` names."""

    FOLDER = "folder"
    FILE = "file"
    HUB = "hub"


def find_source(source: str) -> SourceKind:
    """What `source` names. Raises ModelLoadError for what is not there, or may not be read."""
    path = Path(source)
    if path.suffix in PICKLES and not path.is_dir():
        raise ModelLoadError(
            f"{source}: {path.suffix} files are pickles, which can run code; only .safetensors is read"
        )
    if path.is_dir():
        return SourceKind.FOLDER
    if path.is_file():
        if path.suffix != ".safetensors":
            raise ModelLoadError(f"{source}: not a .safetensors file")
        return SourceKind.FILE
    # "models/demo2" has the form of a hub id too; where its first half is a folder here, a path was meant.
    if _HUB_ID.fullmatch(source) and not path.parent.is_dir() and path.suffix != ".safetensors":
        return SourceKind.HUB
    raise ModelLoadError(f"{source}: there is no such file or folder")


def check_weights(folder: Path, components: Iterable[str]) -> None:
    """Raise ModelLoadError, naming the file, unless the folder has safetensors weights for every component."""
    for component in components:
        _check_component(folder / component)


def variant_of(folder: Path, component: str) -> str | None:
    """The variant to ask diffusers for: "fp16" where a folder holds its weights under no other name."""
    names = [path.name for path in (folder / component).glob("*.safetensors")]
    return "fp16" if names and all(".fp16." in name or ".fp16-" in name for name in names) else None


def _check_component(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelLoadError(f"{folder}: there is no such folder")
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise ModelLoadError(f"{pickles[0]}: a pickle, which can run code; only .safetensors is read")
    raise ModelLoadError(f"{folder}: holds no .safetensors file")
