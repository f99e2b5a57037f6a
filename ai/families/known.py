"""Which families there are, and which of them a model's files are of. Reads names only and imports no torch.

An entry here and a module `ai.families.NAME` make a family (docs/families.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ai.types import ModelLoadError

CONFIGS = Path(__file__).parent / "configs"
PIXELS_PER_LATENT = 8  # of every VAE there is a family for

HEADER_BYTES = 100_000_000  # what the safetensors format itself allows a file's list of tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Used where a request names no value. Those here are Stable Diffusion 1.5's (its model card)."""

    width: int = 512
    height: int = 512
    num_inference_steps: int = 50
    guidance_scale: float = 7.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """`name` is also that of its module; `pipeline_classes` what a folder's model_index.json may say.

    A single file is of the family if one of its tensors' names begins with one of `tensor_prefixes`. `kind_of` tells which of
    the family's kinds it is, each of which has a folder in `configs/`; None where there is but one, of the family's name.
    """

    name: str
    pipeline_classes: tuple[str, ...]
    tensor_prefixes: tuple[str, ...]
    defaults: Defaults = field(default_factory=Defaults)
    kind_of: Callable[[Path], str] | None = None

    def shipped_config(self, file: Path) -> Path:
        """The folder of shipped configurations that a single file is read with. Raises ModelLoadError."""
        return CONFIGS / (self.name if self.kind_of is None else self.kind_of(file))


SD2_TENSORS = "cond_stage_model.model."  # of OpenCLIP; in 1.5 it is cond_stage_model.transformer.
PREDICTION = "modelspec.prediction_type"  # "v" or "epsilon" (https://github.com/Stability-AI/ModelSpec)
PREDICTS_V = re.compile(r"parameterization:\s*['\"]?v\b")  # in the configuration of the original code
REFINER_TENSORS = "conditioner.embedders.0.model."  # of the only encoder, which in a base model is embedders.1


def _version(file: Path) -> str:
    """Of Stable Diffusion. What 2.x predicts is not in its tensors: it is what the file's own ModelSpec says, else the
    original code's `NAME.yaml` beside it, else v, as diffusers takes it."""
    header = tensor_header(file)
    if not any(name.startswith(SD2_TENSORS) for name in header):
        return "sd15"
    original = file.with_suffix(".yaml")
    told = (header.get("__metadata__") or {}).get(PREDICTION)
    if told is None and original.is_file():
        told = "v" if PREDICTS_V.search(original.read_text(encoding="utf-8", errors="replace")) else "epsilon"
    return "sd2" if told == "epsilon" else "sd2_v"


def _base_or_refiner(file: Path) -> str:
    """Of Stable Diffusion XL."""
    refiner = any(name.startswith(REFINER_TENSORS) for name in tensor_header(file))
    return "sdxl_refiner" if refiner else "sdxl"


_ALL = (
    Family(
        name="sd15",
        pipeline_classes=("StableDiffusionPipeline",),
        tensor_prefixes=("cond_stage_model.",),
        kind_of=_version,
    ),
    Family(
        name="sdxl",
        # A refiner's folder is of the second class; so is a base model's that was saved by that pipeline.
        pipeline_classes=("StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline"),
        tensor_prefixes=("conditioner.embedders.",),
        # The size it was trained for, and the guidance of diffusers' pipeline.
        defaults=Defaults(width=1024, height=1024, num_inference_steps=30, guidance_scale=5.0),
        kind_of=_base_or_refiner,
    ),
)

FAMILIES: Mapping[str, Family] = {family.name: family for family in _ALL}


def find_family(name: str) -> Family:
    """The family of that name. Raises ModelLoadError."""
    if name not in FAMILIES:
        raise ModelLoadError(f"family {name!r} is not known; there are {', '.join(FAMILIES)}")
    return FAMILIES[name]


def recognise(path: Path) -> str:
    """The name of the family that a model's folder or single file is of. Raises ModelLoadError where it cannot be told.

    The class in model_index.json decides; for `NAME.safetensors` that in `NAME.config` beside it, else the names of
    its tensors.
    """
    index = local_index(path)
    if index is not None:
        return family_of(index, str(path))
    names = tensor_header(path)
    for family in FAMILIES.values():
        if any(name.startswith(family.tensor_prefixes) for name in names):
            return family.name
    raise ModelLoadError(f"{path}: holds no tensor that tells one of the families {', '.join(FAMILIES)}")


def family_of(index: Mapping[str, object], where: str) -> str:
    """The name of the family whose model_index.json this is. Raises ModelLoadError."""
    found = index.get("_class_name")
    for family in FAMILIES.values():
        if found in family.pipeline_classes:
            return family.name
    known = ", ".join(family.pipeline_classes[0] for family in FAMILIES.values())
    raise ModelLoadError(f"{where}: pipeline class {found!r} is not known; there are {known}")


def config_beside(file: Path) -> Path | None:
    """The folder `NAME.config` of `NAME.safetensors`, where there is one."""
    folder = file.with_suffix(".config")
    return folder if folder.is_dir() else None


def config_folder(source: Path, family: str) -> Path | None:
    """The folder that holds the configurations of a model's networks and scheduler, in the diffusers layout; None where none is
    here: for a hub id, a family that is not known, a file that cannot be read."""
    if source.is_dir():
        return source
    if not source.is_file() or family not in FAMILIES:
        return None
    try:
        return config_beside(source) or FAMILIES[family].shipped_config(source)
    except (ModelLoadError, OSError):
        return None


def usual_size(config: Path | None) -> int | None:
    """The side of the pictures that a model was trained for, in pixels, as its UNet's configuration has it; None where it is
    not a square, or cannot be read."""
    if config is None:
        return None
    try:
        size = json.loads((config / "unet" / "config.json").read_text(encoding="utf-8"))["sample_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size * PIXELS_PER_LATENT if type(size) is int and size > 0 else None


def local_index(path: Path) -> Mapping[str, object] | None:
    """The model_index.json of a folder, or of what lies beside a single file; None for a file that has none.

    Raises ModelLoadError for a folder without one, or with one that is no JSON object.
    """
    folder = path if path.is_dir() else config_beside(path)
    if folder is None:
        return None
    index = folder / "model_index.json"
    if not index.is_file():
        raise ModelLoadError(f"{index}: missing; a model folder must be in the diffusers layout")
    try:
        document = json.loads(index.read_text(encoding="utf-8"))
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError both are
        raise ModelLoadError(f"{index}: {error}") from error
    if not isinstance(document, dict):
        raise ModelLoadError(f"{index}: not a JSON object")
    return document


def tensor_header(file: Path) -> Mapping[str, Any]:
    """A .safetensors file's header: eight bytes of its length, then JSON; tensors by name. Raises ModelLoadError."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length <= HEADER_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelLoadError(f"{file}: cannot be read: {error}") from error
    if not isinstance(header, dict):
        raise ModelLoadError(f"{file}: not a sound safetensors file")
    return header
