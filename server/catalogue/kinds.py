"""The kinds of models that users may register, in one table: a kind adds its line here.

A kind knows how its files are looked at, and what a card is made of; custom models are the operator's (Python that is run), and
come by settings alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ai.cards import Card, ModelCard, read_card, with_default_solver
from ai.families.checking import Looked, look, look_at_text
from ai.text.cards import TextCard, read_text_card
from server.model_records import PAINTING

_CARD: TypeAdapter[ModelCard] = TypeAdapter(ModelCard)
_TEXT_CARD: TypeAdapter[TextCard] = TypeAdapter(TextCard)
_LOCAL = {"source", "adapters", "vae"}  # of a card: true on one machine


Read = Callable[[str, Path, Mapping[str, Path]], Card]


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`look` and `read` are called on a thread, with the card's name and the model's path, and raise ModelLoadError.

    `look` reads all of it once, `read` what a card says. `write` and `parse` carry a card to nodes without the files. `inputs`
    are the only ones that a prediction of this kind can have; None where each model has its own.
    """

    types: tuple[str, ...]
    look: Callable[[str, Path], Looked]
    read: Read
    write: Callable[[Any], str]
    parse: Callable[[str, str], Card]
    inputs: frozenset[str] | None = None


def for_hardware(card: Card, hardware: str) -> Card:
    """The card, and its refiner's, for this kind of device alone."""
    if isinstance(card, TextCard):
        return replace(card, hardware=hardware)
    if not isinstance(card, ModelCard):
        return card
    refiner = None if card.refiner is None else replace(card.refiner, hardware=hardware)
    return replace(card, hardware=hardware, refiner=refiner)


def with_solver(kinds: Sequence[Kind], solver: str) -> tuple[Kind, ...]:
    """The kinds, whose cards begin with this solver where they offer it."""
    return tuple(replace(kind, read=partial(_read_with_solver, kind.read, solver)) for kind in kinds)


def _read_with_solver(read: Read, solver: str, name: str, path: Path, shared: Mapping[str, Path]) -> Card:
    card = read(name, path, shared)
    return with_default_solver(card, solver) if isinstance(card, ModelCard) and solver in card.solvers else card


def _write(card: ModelCard) -> str:
    inner = {*_LOCAL, "refiner"} if card.refiner is None else {**dict.fromkeys(_LOCAL, True), "refiner": _LOCAL}
    return _CARD.dump_json(card, exclude=inner, ensure_ascii=True).decode()  # type: ignore[arg-type]


def _object(written: str) -> dict[str, object]:
    return TypeAdapter(dict[str, object]).validate_json(written)


def _parse(name: str, written: str) -> ModelCard:
    told = _object(written)
    refiner = told.get("refiner")
    if isinstance(refiner, dict):
        told["refiner"] = {"source": "", **refiner}
    return replace(_CARD.validate_python({"source": "", **told}), name=name)


PICTURE_INPUTS = frozenset(
    {
        "prompt", "negative_prompt", "width", "height", "num_inference_steps", "guidance_scale", "seed", "num_outputs",
        "scheduler", "strength",
    }
)  # fmt: skip

KINDS: tuple[Kind, ...] = (
    Kind(
        types=PAINTING,
        look=look,
        read=lambda name, path, shared: read_card(name, str(path), shared),
        write=_write,
        parse=_parse,
        inputs=PICTURE_INPUTS,
    ),
    Kind(
        types=("text-generation",),
        look=look_at_text,
        read=lambda name, path, shared: read_text_card(name, str(path)),
        write=lambda card: _TEXT_CARD.dump_json(card, exclude={"source"}, ensure_ascii=True).decode(),
        parse=lambda name, written: replace(_TEXT_CARD.validate_python({"source": "", **_object(written)}), name=name),
        inputs=frozenset(TextCard(name="", source="").input_schema),
    ),
)


def kind_of(kinds: Sequence[Kind], model_type: str) -> Kind | None:
    """The kind of a model_type; None where there is none."""
    return next((kind for kind in kinds if model_type in kind.types), None)
