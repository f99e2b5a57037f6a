"""The sources of live sessions beside clients: cameras, folders of pictures, recordings. The operator's TOML file says which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_settings import BaseSettings

from config.fields import setting
from config.toml_files import read_toml

MOST = 64  # sources of one file: a thread each may be held by a camera that does not answer
NAME = r"[a-z0-9][a-z0-9_-]{0,30}"
KINDS = ("camera", "folder", "recording")
FASTEST = 240.0  # frames a second: no camera that OpenCV reads gives more


class SourceSettings(BaseSettings):
    """Part of `config.Settings`."""

    live_sources: str = setting(
        "", "LIVE_SOURCES",
        why="A TOML file of cameras, folders and recordings that live sessions may have frames from (docs/realtime.md).",
    )  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcePlan:
    """One source. `rate` is in frames a second, 0 for its own; `owners` may open it, everybody if there are none.

    `place` is a folder, a file, or what a camera is opened by: a number, a device, a URL, a video file.
    """

    name: str
    kind: Literal["camera", "folder", "recording"]
    place: str
    rate: float = 0.0
    repeat: bool = False
    owners: frozenset[str] = frozenset()
    retry_seconds: float = 0.0  # that a camera which fails is tried again


class BadSources(ValueError):
    """A file of sources that cannot be used; the text names the file, the entry and the key."""


class _Source(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
    owners: list[str] = []


class _Camera(_Source):
    kind: Literal["camera"]
    device: Annotated[str, StringConstraints(min_length=1)] | Annotated[int, Field(ge=0)]
    rate: float = Field(0.0, ge=0, le=FASTEST)
    repeat: bool = False  # of a video file
    retry_seconds: float = Field(10.0, ge=0)


class _Folder(_Source):
    kind: Literal["folder"]
    path: Annotated[str, StringConstraints(min_length=1)]
    rate: float = Field(10.0, gt=0, le=FASTEST)
    repeat: bool = True


class _Recording(_Source):
    kind: Literal["recording"]
    path: Annotated[str, StringConstraints(min_length=1)]
    rate: float = Field(0.0, ge=0, le=FASTEST)
    repeat: bool = False


class _Sources(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    source: list[Annotated[_Camera | _Folder | _Recording, Field(discriminator="kind")]] = Field(max_length=MOST)


def read_sources(path: Path) -> Mapping[str, SourcePlan]:
    """The sources of a TOML file by their names; relative paths in it are beside it. Raises BadSources."""
    entries = read_toml(path, _Sources, BadSources, tags=KINDS).source
    plans: dict[str, SourcePlan] = {}
    for entry in entries:
        if entry.name in plans:
            raise BadSources(f"{path}: source.name: {entry.name} stands twice")
        plans[entry.name] = _plan(entry, path.parent)
    return plans


def _plan(entry: _Camera | _Folder | _Recording, beside: Path) -> SourcePlan:
    if isinstance(entry, _Camera):
        place, retry = str(entry.device), entry.retry_seconds
        if "/" not in place and (beside / place).is_file():  # a video file that lies beside
            place = str(beside / place)
    else:
        place, retry = str(beside / entry.path), 0.0
    return SourcePlan(
        name=entry.name, kind=entry.kind, place=place, rate=entry.rate, repeat=entry.repeat,
        owners=frozenset(entry.owners), retry_seconds=retry,
    )  # fmt: skip
