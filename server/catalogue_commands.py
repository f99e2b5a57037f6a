"""What may be asked of registered models and adapters: commands like those of `server.commands`, which lists them too.

Whoever may use a model may look at it; only its owner changes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server.model_records import Visibility
from watermark import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterModel:
    """A model, or one more version of one that its owner has. `path` as server.catalogue.places reads it."""

    owner: str
    name: str
    path: str
    model_type: str = "text-to-image"
    version: str = "1.0.0"
    description: str | None = None
    input_schema: Mapping[str, Any] = field(default_factory=dict)
    hardware: str = "auto"
    visibility: Visibility | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeModel:
    """None: as it is."""

    owner: str
    model: str
    description: str | None = None
    visibility: Visibility | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareTraffic:
    """Which versions get how much of the requests that name none: whole numbers, whose sum is all."""

    owner: str
    model: str
    weights: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RollBack:
    """The shares as they were before they were last changed."""

    owner: str
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveModel:
    """A model with all its versions, or (`version`) one of them; what was accepted is finished."""

    owner: str
    model: str
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddAdapter:
    """An adapter whose file lies at `path`, which is its giver's to delete afterwards. `base` is the model it is for."""

    owner: str
    name: str
    path: Path
    size_bytes: int
    sha256: str
    base: str = ""
    description: str = ""
    licence: str = ""
    artist: str = ""
    signature: Signature | None = None
    visibility: Visibility = Visibility.PRIVATE


@dataclass(frozen=True, slots=True, kw_only=True)
class ListAdapters:
    """Uploaded adapters that the caller may use, the newest first."""

    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveAdapter:
    """By its name, or its id; jobs that wear it are finished."""

    owner: str
    adapter: str


CatalogueCommand = (
    RegisterModel | ChangeModel | ShareTraffic | RollBack | RemoveModel | AddAdapter | ListAdapters | RemoveAdapter
)
