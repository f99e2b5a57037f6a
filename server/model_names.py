"""What a model is called by those who say owner/name and version, as Replicate's clients do.

demo                          the name on its card, and of the settings: what Atelier itself says
atelier/demo                  its full name; one that has an owner already (stabilityai/sdxl) keeps it
ada/fox:1.1.0@4f8c…           a version of a model that Ada registered: the name on that version's card, and what jobs are
                              recorded with. What follows the @ is the model's id, so that no two models ever share one
3b4c…, 64 hex digits          a version's id: follows from the card's name alone, so that it is the same on every node and after
                              every restart. That of a model of the settings does not change when an operator puts other weights
                              under the name
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from server.errors import Code, Refusal

OWNER = "atelier"
FIRST_VERSION = "1.0.0"
NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
VERSION = r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}"
_OWNED = re.compile(r"[^/:]+/[^/:]+")
_CARD = re.compile(
    rf"(?P<owner>[A-Za-z0-9._@-]{{1,64}})/(?P<name>{NAME}):(?P<version>{VERSION})@(?P<id>[0-9a-f]{{16}})"
)
_NAMES = 4096  # remembered; a hundred bytes each


class Registered(NamedTuple):
    """What a card's name says of a version that somebody registered."""

    owner: str
    name: str
    version: str
    model_id: str


def card_name(owner: str, name: str, version: str, model_id: str) -> str:
    """The name of a version's card."""
    return f"{owner}/{name}:{version}@{model_id}"


@lru_cache(_NAMES)
def registered(model: str) -> Registered | None:
    """The parts of a card's name; None for a model of the settings."""
    found = _CARD.fullmatch(model)
    return (
        Registered(**{"model_id" if key == "id" else key: part for key, part in found.groupdict().items()})
        if found
        else None
    )


def shown(model: str) -> str:
    """A model's name for people: owner/name:version of one that was registered."""
    return model.rpartition("@")[0] if registered(model) else model


def model_id(model: str) -> str:
    """What a prediction platform's clients call a model by: the id of its record, or its name in the settings."""
    found = registered(model)
    return found.model_id if found else model


def version_name(model: str) -> str:
    """The version as its owner calls it."""
    found = registered(model)
    return found.version if found else FIRST_VERSION


@lru_cache(_NAMES)
def full_name(model: str) -> str:
    """owner/name of a model; a path's last part where it is one."""
    if found := registered(model):
        return f"{found.owner}/{found.name}"
    if _OWNED.fullmatch(model):
        return model
    return f"{OWNER}/{model.rstrip('/').rpartition('/')[2].replace(':', '-') or 'model'}"


@lru_cache(_NAMES)
def version_of(model: str) -> str:
    """The id of a version, by its card's name: the only one of a model of the settings."""
    return hashlib.sha256(f"atelier model {model if registered(model) else full_name(model)}".encode()).hexdigest()


def names_of(model: str) -> tuple[str, ...]:
    """All that one may call a card by."""
    full, version = full_name(model), version_of(model)
    exact = (f"{full}:{version_name(model)}",) if registered(model) else ()
    return (model, full, version, f"{full}:{version}", *exact)


def find_model(models: Iterable[str], wanted: str, field: str) -> str:
    """The model that is meant by its name, full name, version, or full name:version.

    Raises Refusal (MODEL_NOT_FOUND) that names `field`.
    """
    known = tuple(models)
    for model in known:
        if wanted in names_of(model):
            return model
    raise not_here(wanted, map(full_name, known), field)


def not_here(wanted: str, known: Iterable[str], field: str) -> Refusal:
    """The refusal of a model that there is not, or not for the one who asks."""
    limit = f"one of {', '.join(dict.fromkeys(known))}"
    if len(limit) > _LISTED:
        limit = f"{limit[:_LISTED]}…"
    quoted = wanted if len(wanted) <= 60 else f"{wanted[:57]}..."
    text = f"{field}: model {quoted!r} is not here; there is {limit}"
    return Refusal(Code.MODEL_NOT_FOUND, text, field=field, limit=limit)


_LISTED = 500  # characters of names in a refusal; a list has them all
