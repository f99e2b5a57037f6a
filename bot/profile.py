"""Scenarios as data: what the bots of a run ask for, how often, and how they behave. TOML, checked; docs/bots.md shows one.

    profile = load_profile("game-lobby")          # one of bot/profiles/
    profile = load_profile("my-launch.toml")      # or a file

Nothing of a profile is chance: with the same `seed` the bots choose the same (bot/choosing.py).
"""

from __future__ import annotations

import re
import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

LIBRARY = Path(__file__).resolve().parent / "profiles"
ANY_STYLE = "*"  # whichever of the default model's adapters chance picks
DEFAULT_SIZE = "default"  # the model's own
_SIZE = re.compile(r"([1-9]\d{0,4})x([1-9]\d{0,4})")
_NEAR = 0.6  # of difflib's ratio: "rat" is near to "rate", "colour" to nothing here


class ProfileError(Exception):
    """A profile that cannot be used. The text names the file, the key, and what to write instead."""


class Section(BaseModel):
    """A table of a profile."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Closed(Section):
    """Each of `users` asks, waits for its picture, thinks, and asks again."""

    process: Literal["closed"]
    users: int = Field(default=10, ge=0)
    think_seconds: tuple[float, float] = (0.5, 2.0)  # from, to

    @field_validator("think_seconds")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1]:
            raise ValueError("must be two numbers, from and to, neither negative nor in the wrong order")
        return value


class _Open(Section):
    """People who come whether or not the server keeps up. `connections` are shared by them, in turns."""

    connections: int = Field(default=20, ge=0)


class Poisson(_Open):
    """At random moments, `rate` a second in the mean."""

    process: Literal["poisson"]
    rate: float = Field(default=2.0, gt=0)


class Ramp(_Open):
    """From one rate to another over the run, evenly."""

    process: Literal["ramp"]
    from_rate: float = Field(default=0.5, ge=0)
    to_rate: float = Field(default=5.0, gt=0)


class Spike(_Open):
    """`rate` a second, and for `spike_seconds` from `spike_at` on (a share of the run) `spike_rate`."""

    process: Literal["spike"]
    rate: float = Field(default=1.0, gt=0)
    spike_rate: float = Field(default=10.0, gt=0)
    spike_at: float = Field(default=0.4, ge=0, le=1)
    spike_seconds: float = Field(default=5.0, gt=0)


Arrivals = Closed | Poisson | Ramp | Spike
PROCESSES: dict[str, type[Section]] = {"closed": Closed, "poisson": Poisson, "ramp": Ramp, "spike": Spike}


class Mix(Section):
    """One kind of order; `weight` is its share beside the others'. Of each list one entry is chosen for an order."""

    name: str = ""
    weight: float = Field(default=1.0, gt=0)
    prompts: tuple[str, ...] = Field(min_length=1)
    negative_prompts: tuple[str, ...] = ("",)
    sizes: tuple[str, ...] = (DEFAULT_SIZE,)
    steps: tuple[int, ...] = ()  # none: the model's own number
    guidance: tuple[float, ...] = ()
    styles: tuple[str, ...] = ("",)  # names, joined by + where several are worn; "": none; "*": any
    solvers: tuple[str, ...] = ("",)
    priorities: tuple[int, ...] = (0,)
    images: tuple[int, ...] = (1,)
    signatures: tuple[str, ...] = ("",)  # texts; "": none of the order's own
    preview_every_steps: int = Field(default=0, ge=0)

    @field_validator("sizes")
    @classmethod
    def _sizes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for size in value:
            if size != DEFAULT_SIZE and not _SIZE.fullmatch(size):
                raise ValueError(f'must be like "128x128", or "{DEFAULT_SIZE}", not "{size}"')
        return value

    @field_validator("negative_prompts", "sizes", "styles", "solvers", "priorities", "images", "signatures")
    @classmethod
    def _something_to_choose(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("must have an entry; leave the key out for the default")
        return value


class Behaviour(Section):
    """Shares (0 to 1) of the visits that are not simply polite, and how they are not."""

    cancel: float = Field(default=0.0, ge=0, le=1)  # change their mind while it is painted
    disconnect: float = Field(default=0.0, ge=0, le=1)  # lose the connection, come back and watch their job again
    slow_reader: float = Field(default=0.0, ge=0, le=1)  # stop reading for slow_seconds
    bad_packet: float = Field(default=0.0, ge=0, le=1)  # send what is no request at all
    slow_seconds: float = Field(default=2.0, gt=0, le=60)
    abort_all_every: float = Field(
        default=0.0, ge=0
    )  # seconds; everything under way is then cancelled at once; 0: never
    within_seconds: float = Field(
        default=1.0, ge=0
    )  # of Accepted: when a mind is changed or a connection lost, at the latest

    @model_validator(mode="after")
    def _shares(self) -> Self:
        if self.misbehaving > 1:
            raise ValueError("cancel, disconnect, slow_reader and bad_packet must not add up to more than 1")
        return self

    @property
    def misbehaving(self) -> float:
        """The share that is not polite."""
        return self.cancel + self.disconnect + self.slow_reader + self.bad_packet


class Objectives(Section):
    """What a run has to reach; what is not given is not judged. Seconds from the intended moment."""

    p50_result_seconds: float | None = Field(default=None, gt=0)
    p99_result_seconds: float | None = Field(default=None, gt=0)
    p99_accepted_seconds: float | None = Field(default=None, gt=0)
    failed_share: float = Field(default=0.0, ge=0, le=1)  # of the accepted, at most
    refused_share: float = Field(default=1.0, ge=0, le=1)  # for want of room, at most


class Fault(Section):
    """Something is done to a process: `what` is a name given with --pid. A pause ends after `seconds`."""

    at: float = Field(ge=0)  # seconds from the start
    do: Literal["kill", "pause", "terminate"]
    what: str = "server"
    seconds: float = Field(default=2.0, gt=0)


class Profile(Section):
    """One scenario."""

    title: str = "unnamed"
    about: str = ""
    seed: int = Field(default=1, ge=0)
    arrivals: Annotated[Arrivals, Field(discriminator="process")]
    orders: tuple[Mix, ...] = Field(min_length=1)
    behaviour: Behaviour = Behaviour()
    objectives: Objectives = Objectives()
    faults: tuple[Fault, ...] = ()

    @property
    def bots(self) -> int:
        """How many connections it needs at once."""
        return self.arrivals.users if isinstance(self.arrivals, Closed) else self.arrivals.connections


P = TypeVar("P", bound=Profile)

SECTIONS: dict[str, type[Section]] = {
    "orders": Mix, "behaviour": Behaviour, "objectives": Objectives, "faults": Fault,
}  # fmt: skip


def library(*, live: bool = False) -> list[str]:
    """The names of the ready profiles: of visits, or of live sessions."""
    paths = sorted(LIBRARY.glob("*.toml"))
    return [path.stem for path in paths if ("live" in tomllib.loads(path.read_text(encoding="utf-8"))) == live]


def load_profile(name: str) -> Profile:
    """A ready one by its name, or a file by its path. Raises ProfileError."""
    return read_profile(name, Profile)


def parse_profile(text: str, source: str) -> Profile:
    """A profile from TOML; `source` is its name in messages. Raises ProfileError."""
    return parsed(text, source, Profile)


def read_profile(name: str, kind: type[P]) -> P:
    """One of that kind, ready or a file. Raises ProfileError."""
    path = Path(name)
    ready = LIBRARY / f"{name}.toml"
    if path.suffix != ".toml" and ready.is_file() and ready.parent == LIBRARY:
        path = ready
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        names = ", ".join(library(live=kind is not Profile))
        raise ProfileError(
            f"no profile {name!r} ({error.strerror}); ready ones: {names}; or give the path of a .toml file"
        ) from None
    return parsed(text, str(path), kind)


def parsed(text: str, source: str, kind: type[P]) -> P:
    """One of that kind from TOML. Raises ProfileError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(f"{source} is no TOML: {error}") from None
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        lines = [_explained(problem, data, kind) for problem in error.errors()]
        raise ProfileError("\n".join(f"{source}: {line}" for line in lines)) from None


def _explained(problem: Any, data: dict[str, Any], kind: type[Profile]) -> str:
    """One of pydantic's complaints, for a person."""
    place = [part for part in problem["loc"] if part not in PROCESSES]
    key = ".".join(str(part + 1) if isinstance(part, int) else part for part in place)
    if problem["type"] == "extra_forbidden":
        return f"unknown key {key}{_nearest(place, data, kind)}"
    if problem["type"] == "union_tag_invalid":
        return f"arrivals.process must be one of {', '.join(PROCESSES)}"
    if problem["type"] == "union_tag_not_found":
        return f"arrivals needs a process: one of {', '.join(PROCESSES)}"
    if problem["type"] == "missing":
        return f"{key} is missing"
    return f"{key}: {problem['msg'].removeprefix('Value error, ')}"


def _nearest(place: list[Any], data: dict[str, Any], kind: type[Profile]) -> str:
    """What the unknown key at `place` may have been meant for."""
    known = list(_section_of(place, data, kind).model_fields)
    wrong = str(place[-1])
    near = get_close_matches(wrong, known, 1, _NEAR) or [name for name in known if wrong in name or name in wrong]
    return f"; did you mean {near[0]}?" if near else f"; known here: {', '.join(sorted(known))}"


def _section_of(place: list[Any], data: dict[str, Any], kind: type[Profile]) -> type[Section]:
    if len(place) == 1:
        return kind
    if place[0] not in SECTIONS and place[0] != "arrivals":
        return cast(type[Section], kind.model_fields[place[0]].annotation)
    if place[0] == "arrivals":
        return PROCESSES[data["arrivals"]["process"]]
    return SECTIONS[place[0]]
