"""Model cards: what is known of a model before its weights are in memory.

A model's folder may hold a `card.toml`:

    [defaults]              # what a request that does not say gets
    width = 128
    height = 128
    num_inference_steps = 20
    guidance_scale = 4.0

Whatever the card leaves out comes from its family. The folder's own `adapters/` holds the model's adapters (see
`ai.adapters.folder`). Reading a card imports no torch.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from ai.adapters.folder import find_adapters
from ai.types import ModelLoadError

SOLVERS = ("dpmpp_2m",)
"""Solvers every family here can run, the default first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Used where a request names no value. Those here are Stable Diffusion 1.5's (its model card)."""

    width: int = 512
    height: int = 512
    num_inference_steps: int = 50
    guidance_scale: float = 7.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """`source` is a diffusers folder, a single .safetensors file or a hub id; sizes are pixels; `adapters` are names with
    the file or folder of each."""

    name: str
    source: str
    family: str = "sd15"
    defaults: Defaults = field(default_factory=Defaults)
    size_multiple: int = 8  # the VAE's scale: a latent pixel is 8 by 8 picture pixels
    min_size: int = 64  # below this the UNet's lowest level has no pixel left
    solvers: tuple[str, ...] = SOLVERS
    description: str = ""
    adapters: Mapping[str, Path] = field(default_factory=dict, hash=False)


def read_card(name: str, source: str, adapters: Mapping[str, Path] | None = None) -> ModelCard:
    """The card of the model at `source`, the family's values where the folder holds none.

    `adapters` are those that every model may use; of two with the same name, the model's own is taken.
    Raises ModelLoadError for a card that is not TOML, or that names a value no card has or of another type.
    """
    own = Path(source) / "adapters"
    found = {**(adapters or {}), **(find_adapters(own) if own.is_dir() else {})}
    card = ModelCard(name=name, source=source, adapters=dict(sorted(found.items())))
    path = Path(source) / "card.toml"
    if not path.is_file():
        return card
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    unknown = sorted(set(document) - {"description", "family", "defaults"})
    if unknown:
        raise ModelLoadError(f"{path}: {', '.join(unknown)}: no such entry")
    return replace(
        card,
        description=str(document.get("description", card.description)),
        family=str(document.get("family", card.family)),
        defaults=_read_defaults(path, document.get("defaults", {}), card.defaults),
    )


def _read_defaults(path: Path, given: dict[str, object], base: Defaults) -> Defaults:
    known = {entry.name: type(getattr(base, entry.name)) for entry in fields(Defaults)}
    values: dict[str, int | float] = {}
    for key, value in given.items():
        kind = known.get(key)
        if kind is None:
            raise ModelLoadError(f"{path}: defaults.{key}: no such entry; there are {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or (kind is int and isinstance(value, float)):
            raise ModelLoadError(f"{path}: defaults.{key}: must be {kind.__name__}, is {value!r}")
        values[key] = kind(value)
    return replace(base, **values)  # type: ignore[arg-type]  # kinds were checked above
