"""Model cards: what is known of a model before its weights are in memory.

A model's folder may hold a `card.toml`:

    description = "..."
    solvers = ["dpmpp_2m", "euler_a"]  # offered, the default first; left out: all that its scheduler configuration allows
    family = "sdxl"         # where the files do not say
    source = "NAME"         # what the card is of, where that is not its own folder
    refiner = "NAME"        # the model that makes the last steps (docs/models.md)
    refiner_switch = 0.8    # from which share of the noise schedule on
    vae = "NAME"            # instead of the model's own: a diffusers folder of that one network, or a single file

    [defaults]              # what a request that does not say gets
    width = 128
    height = 128
    num_inference_steps = 20
    guidance_scale = 4.0

Where a folder is no diffusers folder and its card names no source, it is read as servers of Stable Diffusion XL keep their files:
sd_xl_base_1.0.safetensors, and if they are there sd_xl_refiner_1.0.safetensors and sdxl.vae.safetensors.

A NAME is a path from the card's folder on, or whatever else a model's source may be. Whatever the card leaves out comes from
its family; the size from the configuration of its UNet, where that is here to be read. The folder's own `adapters/` holds the
model's adapters (see `ai.adapters.folder`). Reading a card imports no torch.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ai.adapters.folder import find_adapters
from ai.custom.cards import CustomCard
from ai.families.known import FAMILIES, Defaults, config_folder, recognise, usual_size
from ai.schedules import SOLVERS, Schedule, most_steps, schedules_of_folder
from ai.text.cards import TextCard, is_text_model, read_text_card
from ai.types import ModelLoadError

_ENTRIES: Mapping[str, type] = {
    "description": str,
    "family": str,
    "source": str,
    "refiner": str,
    "refiner_switch": float,
    "vae": str,
    "solvers": object,  # looked at where it is read
    "defaults": dict,
}

SINGLE_FILES: Mapping[str, str] = {  # under the names that Stability AI published them by
    "source": "sd_xl_base_1.0.safetensors",
    "refiner": "sd_xl_refiner_1.0.safetensors",
    "vae": "sdxl.vae.safetensors",
}

MARKS = ("model_index.json", "card.toml", SINGLE_FILES["source"])  # of a folder that a card can be read of

REFINER_SWITCH = 0.8  # Stable Diffusion XL's refiner was trained on the last fifth of the noise levels

ANY_DEVICE, ON_CPU, ON_GPU = "auto", "cpu", "gpu"
HARDWARE = (ANY_DEVICE, ON_CPU, ON_GPU)
"""On which kind of device a model may be loaded."""

REFINER = ":refiner"
"""Ends the name of a refiner's own card, which a setting cannot give: no request names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """`source` is a diffusers folder, a single .safetensors file or a hub id; sizes are pixels; `adapters` are names with
    the file or folder of each. An empty `family` is told by the files when they are loaded.

    The `refiner` makes the last steps of every picture, from the share `refiner_switch` of the noise schedule on. The `solvers`
    are those that both models can follow; `most_steps` are those of them that cannot make as many steps as anyone likes.
    `hardware` is one of HARDWARE.
    """

    name: str
    source: str
    family: str = ""
    defaults: Defaults = field(default_factory=Defaults)
    size_multiple: int = 8  # the VAE's scale: a latent pixel is 8 by 8 picture pixels
    min_size: int = 64  # below this the UNet's lowest level has no pixel left
    solvers: tuple[str, ...] = SOLVERS
    most_steps: Mapping[str, int] = field(default_factory=dict, hash=False)
    description: str = ""
    vae: str = ""  # a folder or file that replaces the source's own; none where it is empty
    adapters: Mapping[str, Path] = field(default_factory=dict, hash=False)
    refiner: ModelCard | None = None
    refiner_switch: float = REFINER_SWITCH
    hardware: str = ANY_DEVICE

    @property
    def model_type(self) -> str:
        """What it does, in the words of prediction platforms."""
        return "text-to-image"


PredictingCard = TextCard | CustomCard
"""Those of models that paint nothing."""

Card = ModelCard | PredictingCard
"""Any model's. All have a name, a source, a description, a model_type and adapters; those that paint nothing have an
input_schema and an output_schema, and make a request of an input."""


def read_card(name: str, source: str, adapters: Mapping[str, Path] | None = None) -> ModelCard:
    """The card of the model at `source`, the family's values where the folder holds none.

    `adapters` are those that every model may use; of two with the same name, the model's own is taken.
    Raises ModelLoadError for a card that is not TOML, that names a value no card has or of another type, or a solver that the
    model or its refiner cannot follow.
    """
    folder = Path(source)
    path, own = folder / "card.toml", folder / "adapters"
    document = {**_single_files(folder), **(_read_document(path) if path.is_file() else {})}
    found = {**(adapters or {}), **(find_adapters(own) if own.is_dir() else {})}
    if "source" in document:
        source = _place(folder, document["source"])
    family = document.get("family", "") or _family_of(source)
    config = config_folder(Path(source), family)
    schedules = schedules_of_folder(config)
    refiner = _read_refiner(path, name, document)
    solvers = _read_solvers(path, document["solvers"], schedules) if "solvers" in document else tuple(schedules)
    if refiner is not None:
        solvers = _followed_by_both(path, solvers, refiner, chosen="solvers" in document)
    return ModelCard(
        name=name,
        source=source,
        family=family,
        description=document.get("description", ""),
        vae=_place(folder, document["vae"]) if "vae" in document else "",
        solvers=solvers,
        most_steps=_most_steps(solvers, schedules, refiner),
        defaults=_read_defaults(path, document.get("defaults", {}), _usual(family, config)),
        adapters=dict(sorted(found.items())),
        refiner=refiner,
        refiner_switch=_read_switch(path, document),
    )


def read_any_card(name: str, source: str, adapters: Mapping[str, Path] | None = None) -> Card:
    """The card of a model of whichever kind its files say. Raises ModelLoadError."""
    return read_text_card(name, source) if is_text_model(source) else read_card(name, source, adapters)


def with_default_solver(card: ModelCard, solver: str) -> ModelCard:
    """The card with this solver for requests that name none. Raises ModelLoadError where it does not offer it."""
    if solver not in card.solvers:
        raise ModelLoadError(f"{card.name}: does not offer the solver {solver!r}; there are {', '.join(card.solvers)}")
    return replace(card, solvers=tuple(dict.fromkeys((solver, *card.solvers))))


def with_refiners(cards: Iterable[Card]) -> list[Card]:
    """The cards, and those of the refiners that they name."""
    cards = list(cards)
    return [*cards, *(card.refiner for card in pictures_of(cards) if card.refiner is not None)]


def pictures_of(cards: Iterable[Card]) -> list[ModelCard]:
    """The cards of models that paint."""
    return [card for card in cards if isinstance(card, ModelCard)]


def places_of(card: Card) -> Iterator[str]:
    """What a card names as the places of its files: paths of this machine, or whatever else its source may be."""
    if isinstance(card, CustomCard):
        return
    yield card.source
    if isinstance(card, ModelCard):
        yield card.vae
        if card.refiner is not None:
            yield from places_of(card.refiner)


def runs_on(hardware: str, device: str) -> bool:
    """Whether a card's hardware allows a torch device ("cpu", "cuda", "cuda:1")."""
    return hardware == ANY_DEVICE or (hardware == ON_CPU) == (device == "cpu")


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    unknown = sorted(set(document) - set(_ENTRIES))
    if unknown:
        raise ModelLoadError(f"{path}: {', '.join(unknown)}: no such entry; there are {', '.join(_ENTRIES)}")
    for key, value in document.items():
        if not isinstance(value, _ENTRIES[key]):
            raise ModelLoadError(f"{path}: {key}: must be {_ENTRIES[key].__name__}, is {value!r}")
    return document


def _single_files(folder: Path) -> dict[str, Any]:
    """What a card would say of a folder that holds a model as files of the usual names, and is in no other layout."""
    if (folder / "model_index.json").is_file() or not (folder / SINGLE_FILES["source"]).is_file():
        return {}
    return {entry: name for entry, name in SINGLE_FILES.items() if (folder / name).is_file()}


def _place(folder: Path, source: str) -> str:
    """A source that a card names: seen from the card's folder, where there is such a thing."""
    return str(folder / source) if (folder / source).exists() else source


def _read_refiner(path: Path, name: str, document: Mapping[str, Any]) -> ModelCard | None:
    if "refiner" not in document:
        return None
    source = _place(path.parent, document["refiner"])
    if name.endswith(REFINER):
        raise ModelLoadError(f"{path}: refiner: this is a refiner's own card, which names none")
    return read_card(name + REFINER, source)


def _read_switch(path: Path, document: Mapping[str, Any]) -> float:
    switch: float = document.get("refiner_switch", REFINER_SWITCH)
    if not 0 < switch < 1:
        raise ModelLoadError(f"{path}: refiner_switch: must be between 0 and 1, is {switch}")
    return switch


def _family_of(source: str) -> str:
    """The family by the files; none of them where they do not say, and then loading will say why."""
    try:
        return recognise(Path(source))
    except ModelLoadError:
        return ""


def _usual(family: str, config: Path | None) -> Defaults:
    """What a card gets that names no defaults."""
    usual, size = FAMILIES[family].defaults if family in FAMILIES else Defaults(), usual_size(config)
    return usual if size is None else replace(usual, width=size, height=size)


def _read_solvers(path: Path, given: object, schedules: Mapping[str, Schedule]) -> tuple[str, ...]:
    if not isinstance(given, list) or not given or any(solver not in SOLVERS for solver in given):
        raise ModelLoadError(f"{path}: solvers: must be a list of one or more of {', '.join(SOLVERS)}, is {given!r}")
    for solver in given:
        if solver not in schedules:
            can = ", ".join(schedules)
            raise ModelLoadError(f"{path}: solvers: {solver!r} cannot follow the model's scheduler; there are {can}")
    return tuple(dict.fromkeys(given))


def _followed_by_both(path: Path, solvers: tuple[str, ...], refiner: ModelCard, *, chosen: bool) -> tuple[str, ...]:
    """The solvers that the refiner can go on with; if they were `chosen`, it must be able to with all."""
    both = tuple(solver for solver in solvers if solver in refiner.solvers)
    if both == solvers or (both and not chosen):
        return both
    entry, left = ("solvers", [one for one in solvers if one not in both]) if chosen else ("refiner", solvers)
    raise ModelLoadError(
        f"{path}: {entry}: the refiner {refiner.source} cannot go on with {', '.join(left)}; "
        f"it offers {', '.join(refiner.solvers)}"
    )


def _most_steps(solvers: Iterable[str], schedules: Mapping[str, Schedule], refiner: ModelCard | None) -> dict[str, int]:
    """Of the solvers that have such a limit: the steps that the model can make, and its refiner too."""
    limits: dict[str, int] = {}
    for solver in solvers:
        own = most_steps(schedules[solver], solver)
        others = None if refiner is None else refiner.most_steps.get(solver)
        known = [limit for limit in (own, others) if limit is not None]
        if known:
            limits[solver] = min(known)
    return limits


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
