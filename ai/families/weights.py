"""What a model will take in memory, told from its files before anything of it is loaded. Reads headers only."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from ai.device import find_place
from ai.families.known import local_index, tensor_header
from ai.families.sources import variant_of
from ai.types import EngineSettings, ModelLoadError


def expected_bytes(source: str, settings: EngineSettings) -> int:
    """The bytes of all weights at `source` in the settings' number format; 0 where no files can tell (a hub id).

    What is wrong with a file is not said here: whoever loads it does.
    """
    item = find_place(settings).dtype.itemsize
    try:
        return sum(numbers_in(file) for file in _files(Path(source))) * item
    except (ModelLoadError, OSError, KeyError, TypeError, AttributeError):
        return 0


def _files(source: Path) -> Iterator[Path]:
    if source.is_file():
        yield source
    elif source.is_dir():
        for component in (local_index(source) or {}).keys() & {folder.name for folder in source.iterdir()}:
            variant = variant_of(source, component)
            for file in (source / component).glob("*.safetensors"):
                # A folder may hold its weights in several number formats, of which one is read.
                if (".fp16." in file.name or ".fp16-" in file.name) == (variant == "fp16"):
                    yield file


def numbers_in(file: Path) -> int:
    """How many numbers a .safetensors file holds. Raises ModelLoadError."""
    header = tensor_header(file)
    return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
