"""The settings of a server that is one of several processes, and the plan that says which there are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic_settings import BaseSettings

from config.fields import setting
from config.toml_files import read_toml

MOST = 256  # processes of one machine: one a core of the largest
NAME = r"[a-z][a-z0-9-]{0,30}"


class ProcessSettings(BaseSettings):
    """Part of `config.Settings`. The supervisor of `atelier serve --processes` sets these for each of its processes."""

    processes: int = setting(
        1, "PROCESSES", ge=1, le=MOST,
        why="So many processes, alike, on the same addresses: one a device, or a core (docs/operations.md).",
    )  # fmt: skip
    process: str = setting(
        "", "PROCESS", pattern=r"^[A-Za-z0-9.-]{0,64}$",
        why="This process's name among several that share a data folder. Set by `atelier serve --processes`, by nobody else.",
    )  # fmt: skip
    sockets: str = setting(
        "", "SOCKETS", pattern=r"^((tcp|http)=\d+(,(tcp|http)=\d+)*)?$",
        why="Listening sockets that were opened for this process: tcp=3,http=4. Set by `atelier serve --processes`.",
    )  # fmt: skip
    supervisor: int = setting(
        0, "SUPERVISOR", ge=0,
        why="The process id of whoever started this process, with which it ends. Set by `atelier serve --processes`.",
    )  # fmt: skip
    restart_pause: float = setting(
        1.0, "RESTART_PAUSE", gt=0,
        why="Seconds before a process that ended again soon is started again; doubled each time, up to half a minute.",
    )  # fmt: skip

    def given_sockets(self) -> dict[str, int]:
        """The file descriptors by the doors' names."""
        parts = filter(None, self.sockets.split(","))
        return {door: int(number) for door, _, number in (part.partition("=") for part in parts)}


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process that is to be there, always. `environment` comes before the supervisor's own."""

    name: str
    doors: bool = True  # a worker has none
    environment: Mapping[str, str] = field(default_factory=dict)


class BadPlan(ValueError):
    """A plan that cannot be followed; the text names the entry and the key."""


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, StringConstraints(pattern=rf"^{NAME}$")]
    count: int = Field(1, ge=1, le=MOST)
    role: Literal["all", "gateway", "worker"] | None = None
    environment: dict[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]*$")], str] = {}


class _Plan(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    process: list[_Entry] = Field(min_length=1)


def read_plan(path: Path, role: str) -> tuple[ProcessPlan, ...]:
    """The processes of a TOML file; `role` is that of those that say none. Raises BadPlan."""
    entries = read_toml(path, _Plan, BadPlan).process
    names = [entry.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise BadPlan(f"{path}: process.name: {name} stands twice; give it a count instead")
    if (most := sum(entry.count for entry in entries)) > MOST:
        raise BadPlan(f"{path}: process.count: {most} in all; at most {MOST}")
    return tuple(plan for entry in entries for plan in _plans(entry, role))


def _plans(entry: _Entry, role: str) -> list[ProcessPlan]:
    environment = {"ATELIER_ROLE": entry.role, **entry.environment} if entry.role else entry.environment
    names = [entry.name] if entry.count == 1 else [f"{entry.name}-{number}" for number in range(1, entry.count + 1)]
    return [ProcessPlan(name, (entry.role or role) != "worker", environment) for name in names]


def equal_processes(count: int, devices: tuple[str, ...], threads: int) -> tuple[ProcessPlan, ...]:
    """So many alike: of several `devices` each has one, in turns; each takes so many CPU `threads` (0: as it comes)."""

    def plan(number: int) -> ProcessPlan:
        environment = {"ATELIER_TORCH_THREADS": str(threads)} if threads else {}
        if len(devices) > 1:
            environment["ATELIER_DEVICES"] = devices[number % len(devices)]
        return ProcessPlan(str(number + 1), environment=environment)

    return tuple(plan(number) for number in range(count))
