"""Folders of weights that the examples read: local ones, in safetensors alone, with no code of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FROM_HERE: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}
"""What every from_pretrained is told."""


def checked(folder: str) -> str:
    """The folder. Raises ValueError where it is none, or holds no weights in safetensors."""
    if not (Path(folder) / "config.json").is_file():
        raise ValueError(f"{folder} holds no config.json")
    if not any(Path(folder).glob("*.safetensors")):
        raise ValueError(f"{folder} holds no .safetensors; weights in another format are not read")
    return folder
