"""Models and adapters that users registered, as the records have them: plain data, the same on every node.

A model has versions, each with files of its own; what a version is called where a job names it says `server.model_names`. The
models of the settings have no record: they are the operator's, and public.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from server.model_names import card_name
from watermark import Signature

PAINTING = ("text-to-image", "image-to-image", "image-generation")  # model_types of which pictures are asked, by Submit


class CheckState(StrEnum):
    """What became of the look at a version's files. A version that was refused stays so; its name is not used again."""

    CHECKING = "checking"
    READY = "ready"
    REFUSED = "refused"


class Visibility(StrEnum):
    """Who may use it: its owner alone, or everyone."""

    PRIVATE = "private"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True, kw_only=True)
class VersionRecord:
    """One version. `path` is as its owner gave it; `weight` its share of the requests that name no version.

    `card` is what a node needs to know of it that has none of its files (JSON, the kind's own); `content_id` is SHA-256 over its
    files.
    """

    version: str
    path: str
    input_schema: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    hardware: str = "auto"
    state: CheckState = CheckState.CHECKING
    problem: str = ""
    content_id: str = ""
    size_bytes: int = 0
    card: str = ""
    weight: int = 0
    created_at: float = 0.0
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRecord:
    """One model. Times are seconds since 1970; `previous` are the weights before they were last changed, by version."""

    id: str
    owner: str
    name: str
    description: str
    model_type: str
    visibility: Visibility
    created_at: float
    updated_at: float
    versions: tuple[VersionRecord, ...] = ()  # the oldest first
    previous: Mapping[str, int] = field(default_factory=dict, hash=False)
    deleted: bool = False

    @property
    def full_name(self) -> str:
        """owner/name."""
        return f"{self.owner}/{self.name}"

    @property
    def paints(self) -> bool:
        """Whether pictures are asked of it."""
        return self.model_type in PAINTING

    def card_name(self, version: str) -> str:
        """What a job, and the engine, call a version."""
        return card_name(self.owner, self.name, version, self.id)

    def version(self, version: str) -> VersionRecord | None:
        """One that there is."""
        return next((one for one in self.versions if one.version == version and not one.deleted), None)

    @property
    def current(self) -> VersionRecord | None:
        """The version with the largest share, the newest of equals; where none has one, the newest."""
        there = [one for one in self.versions if not one.deleted]
        return max(there, key=lambda one: (one.weight, one.created_at), default=None)

    def may_use(self, owner: str) -> bool:
        """Whether it is theirs, or everyone's."""
        return self.visibility is Visibility.PUBLIC or owner == self.owner


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterRecord:
    """An adapter that was uploaded. `sha256` is of its file, `content_id` of its matrices (ai.adapters.adapter), `base` the model
    that it was checked against; `licence` and `artist` are as its owner says. `signature` is the artist's, for every picture in
    this style."""

    id: str
    owner: str
    name: str
    description: str
    base: str
    family: str
    visibility: Visibility
    licence: str
    artist: str
    signature: Signature | None
    size_bytes: int
    rank: int
    sha256: str
    content_id: str
    created_at: float
    updated_at: float
    deleted: bool = False

    @property
    def full_name(self) -> str:
        """owner/name."""
        return f"{self.owner}/{self.name}"

    def may_use(self, owner: str) -> bool:
        """Whether it is theirs, or everyone's."""
        return self.visibility is Visibility.PUBLIC or owner == self.owner
