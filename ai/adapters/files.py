"""The files of an adapter: which of them are read, and what stands in them. Imports torch.

An adapter is one .safetensors file, or a folder that holds one of

- `pytorch_lora_weights.safetensors`, as diffusers saves it;
- `adapter_model.safetensors` and `adapter_config.json`, as PEFT saves them;
- sub-folders `unet`, `text_encoder` and `text_encoder_2` of the second kind;
- a single .safetensors file of another name.

A file is read into memory once, whole, and no more than the limit of it: nothing is mapped, since a mapped file that
someone cuts short ends the process. safetensors and JSON are data; reading them runs nothing.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from ai.adapters.folder import SUFFIX, lies_inside
from ai.pickles import PICKLES
from ai.types import AdapterError

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_FILE = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
SUB_FOLDERS = ("unet", "text_encoder", "text_encoder_2")
METADATA_KEY = "lora_adapter_metadata"  # where diffusers keeps the PEFT configuration in a file's header
CONFIG_BYTES = 1_000_000  # an adapter_config.json has one or two thousand


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """One file of weights. `config` is the PEFT configuration that came with it; `network` what its place says it is for."""

    name: str  # for people, from the adapter's own folder on
    tensors: dict[str, Tensor]
    config: Mapping[str, Any] | None
    is_peft: bool
    network: str | None = None


def open_files(path: Path, max_bytes: int) -> list[Stored]:
    """The tensors of the adapter at `path`, a file or a folder in a folder of adapters. Raises AdapterError."""
    try:
        return _open(path, _Budget(path.parent, max_bytes))
    except OSError as error:
        raise AdapterError(f"{path.name}: cannot be read: {error.strerror}") from error


def _open(path: Path, budget: _Budget) -> list[Stored]:
    if path.suffix in PICKLES and not path.is_dir():
        raise AdapterError(f"{path.name}: {path.suffix} files are pickles, which can run code; only {SUFFIX} is read")
    if path.is_dir():
        return list(_open_folder(path, budget))
    if path.suffix != SUFFIX:
        raise AdapterError(f"{path.name}: not a {SUFFIX} file")
    return [_open_plain(path, budget)]


class _Budget:
    """Reads files below `root`, until `max_bytes` are used up."""

    def __init__(self, root: Path, max_bytes: int) -> None:
        self._root = root
        self._max = self._left = max_bytes

    def name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def read(self, path: Path) -> bytes:
        if not lies_inside(path, self._root):
            raise AdapterError(f"{self.name(path)}: a link that leaves the folder of adapters is not followed")
        if not stat.S_ISREG(path.stat().st_mode):  # a pipe would be waited for
            raise AdapterError(f"{self.name(path)}: not a plain file")
        with path.open("rb") as file:
            data = file.read(self._left + 1)
        if len(data) > self._left:
            raise AdapterError(f"{self.name(path)}: too large; an adapter may have {self._max:,} bytes")
        self._left -= len(data)
        return data


def _open_folder(folder: Path, budget: _Budget) -> Iterator[Stored]:
    if (folder / DIFFUSERS_FILE).is_file():
        yield _open_plain(folder / DIFFUSERS_FILE, budget)
    elif (folder / PEFT_FILE).is_file():
        yield _open_peft(folder, budget, None)
    elif parts := [name for name in SUB_FOLDERS if (folder / name / PEFT_FILE).is_file()]:
        for part in parts:
            yield _open_peft(folder / part, budget, part)
    else:
        yield _open_plain(_only_file(folder, budget), budget)


def _only_file(folder: Path, budget: _Budget) -> Path:
    files = sorted(path for path in folder.iterdir() if path.is_file())
    weights = [path for path in files if path.suffix == SUFFIX]
    if len(weights) == 1:
        return weights[0]
    if weights:
        raise AdapterError(f"{folder.name}: which of {', '.join(path.name for path in weights[:5])} is the adapter?")
    pickles = [path for path in files if path.suffix in PICKLES]
    if pickles:
        raise AdapterError(f"{budget.name(pickles[0])}: a pickle, which can run code; only {SUFFIX} is read")
    raise AdapterError(f"{folder.name}: holds no {DIFFUSERS_FILE}, no {PEFT_FILE} and no other {SUFFIX} file")


def _open_plain(path: Path, budget: _Budget) -> Stored:
    tensors, metadata = _read_weights(path, budget)
    written = metadata.get(METADATA_KEY)
    config = None if written is None else _as_object(written, f"{budget.name(path)}: {METADATA_KEY}")
    return Stored(budget.name(path), tensors, config, is_peft=False)


def _open_peft(folder: Path, budget: _Budget, network: str | None) -> Stored:
    path = folder / PEFT_CONFIG
    if not path.is_file():
        raise AdapterError(f"{budget.name(path)}: missing; without it the adapter's strength is not known")
    written = budget.read(path)
    if len(written) > CONFIG_BYTES:
        raise AdapterError(f"{budget.name(path)}: has {len(written):,} bytes, which is no configuration")
    config = _as_object(written, budget.name(path))
    tensors, _ = _read_weights(folder / PEFT_FILE, budget)
    return Stored(budget.name(folder / PEFT_FILE), tensors, config, is_peft=True, network=network)


def _read_weights(path: Path, budget: _Budget) -> tuple[dict[str, Tensor], dict[str, str]]:
    data = budget.read(path)
    try:
        tensors = safetensors.torch.load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])  # the format's own: length, JSON, tensors
    except Exception as error:  # SafetensorError for most, and whatever else a damaged header leads to
        raise AdapterError(f"{budget.name(path)}: not a sound safetensors file: {error}") from error
    return tensors, header.get("__metadata__") or {}


def _as_object(written: str | bytes, where: str) -> dict[str, Any]:
    try:
        document = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{where}: not JSON: {error}") from error
    if not isinstance(document, dict):
        raise AdapterError(f"{where}: not a JSON object")
    return document
