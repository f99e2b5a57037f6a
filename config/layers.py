"""Settings for many nodes: a folder of TOML files, laid one over the other.

    base.toml               of every node
    groups/NAME.toml        of the nodes of a group, over base.toml
    instances/NAME.toml     of one node, over its group's; `group = "NAME"` says which that is

Each holds variables as docs/configuration.md has them: `ATELIER_MAX_PENDING_JOBS = 200`. What a node would refuse is refused
here, with its file and variable, by the very class that a node reads its settings with. A secret is never in a file: it is
written `{ from = "environment" }`, handed out as that, and the node's own environment has to have it.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from config.settings import Settings, below, environment_names, explain
from config.shared import NAME, SharedSettings

MOST_FILE = 256 << 10  # bytes: every setting there is, with its reason beside it, has 60 kB
MOST_FILES = 2000
BASE: Final = "base.toml"
GROUP: Final = "group"
FROM_ENVIRONMENT: Final[Mapping[str, str]] = {"from": "environment"}
OWN: Final = frozenset({"data_dir", "process", "sockets", "supervisor", *SharedSettings.model_fields})
"""What only a node's own environment says: where its folder is, which of several processes it is, and where it asks."""

_NAMED: Final = re.compile(NAME)

Value = str | int | float | bool | list[Any] | dict[str, str]
Values = Mapping[str, Value]


class BadLayers(ValueError):
    """Settings that no node could start with: a line for each mistake, with its file and variable."""


class NoSuchPath(KeyError):
    """Nothing stands there; `known` is what does beside it."""

    def __init__(self, path: str, known: tuple[str, ...]) -> None:
        super().__init__(path)
        self.path = path
        self.known = known


@dataclass(frozen=True, slots=True)
class Tree:
    """What is handed out: by every name the values that hold there, all layers together."""

    base: Values = field(default_factory=dict)
    groups: Mapping[str, Values] = field(default_factory=dict)
    instances: Mapping[str, Values] = field(default_factory=dict)

    def at(self, path: str) -> Any:
        """What stands at a path of names joined by /; everything at "". Raises NoSuchPath."""
        found: Any = {"base": self.base, "groups": self.groups, "instances": self.instances}
        for part in path.split("/") if path else ():
            if not isinstance(found, Mapping) or part not in found:
                raise NoSuchPath(path, tuple(found) if isinstance(found, Mapping) else ())
            found = found[part]
        return found


def is_secret(field: str) -> bool:
    """Whether a setting's value is nobody's business."""
    return _holds_secrets(Settings.model_fields[field].annotation)


def _holds_secrets(kind: Any) -> bool:
    return kind is SecretStr or any(_holds_secrets(part) for part in get_args(kind))


def read_tree(folder: Path) -> Tree:
    """The settings of a folder. Raises BadLayers, with every mistake there is."""
    reading = _Reading(folder)
    tree = reading.tree()
    if reading.wrong:
        raise BadLayers("\n".join(dict.fromkeys(reading.wrong)))
    return tree


def look(folder: Path) -> tuple[tuple[str, int, int], ...]:
    """What tells whether a folder was changed: its files' names, times and sizes. Raises BadLayers, OSError."""
    found = []
    for name, path in _files(folder):
        state = path.stat()
        found.append((name, state.st_mtime_ns, state.st_size))
    return tuple(found)


def shared_values(answer: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """What was handed out to a node: texts by the variables' first names, and the variables that its own environment must have.

    Raises BadLayers.
    """
    if not isinstance(answer, dict):
        raise BadLayers("it is no object of settings")
    wrong: list[str] = []
    values = dict(_checked({name: value for name, value in answer.items() if name != GROUP}, wrong))
    if wrong:
        raise BadLayers("\n".join(wrong))
    return as_texts(values), tuple(name for name, value in values.items() if isinstance(value, dict))


def as_texts(values: Values) -> dict[str, str]:
    """Values as an environment would have them; without those that a node's own environment must have."""
    return {name: _text(value) for name, value in values.items() if not isinstance(value, dict)}


class _Alone(Settings):
    """The same settings, read from nothing but what is given: not from the environment of whoever hands them out."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given."""
        return (init_settings,)


class _Reading:
    """One reading of a folder; `wrong` are its mistakes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._is_base_whole = False
        self.wrong: list[str] = []

    def tree(self) -> Tree:
        """What can be read of it."""
        try:
            files = {name: self._values(name, path) for name, path in _files(self._folder)}
        except OSError as error:
            self.wrong.append(f"{error.filename or self._folder}: {error.strerror or error}")
            return Tree()
        except BadLayers as error:
            self.wrong.append(str(error))
            return Tree()
        self._is_base_whole = set(files) <= {BASE}  # else it may leave things for the files over it to say
        base = self._joined({}, BASE, files)
        groups = {_stem(name): self._joined(base, name, files) for name in files if _in(name, "groups")}
        return Tree(base, groups, dict(self._instances(base, groups, files)))

    def _instances(
        self, base: Values, groups: Mapping[str, Values], files: Mapping[str, dict[str, Any]]
    ) -> Iterator[tuple[str, Values]]:
        for name in (name for name in files if _in(name, "instances")):
            group = str(files[name].pop(GROUP, ""))
            if group and group not in groups:
                self.wrong.append(f"{name}: {GROUP}: must be one of {_listed(groups)}, not {group[:60]!r}")
            values = self._joined(groups.get(group, base), name, files)
            yield _stem(name), {GROUP: group, **values} if group else values

    def _joined(self, lower: Values, name: str, files: Mapping[str, dict[str, Any]]) -> Values:
        """A file's values over those below, if a node could start with them."""
        wrong: list[str] = []
        given = files.get(name, {})
        own = dict(_checked(given, wrong))
        values = {**lower, **own}
        written = {environment_names(each)[0]: _written(each, given) for each in Settings.model_fields}
        for variable, message in _mistakes(values):
            if variable in own:  # else it was told of the file below
                wrong.append(f"{written[variable]}: {message}")
            elif not variable and (name != BASE or self._is_base_whole):  # of several settings together
                wrong.append(message)
        self.wrong += [f"{name}: {line}" for line in wrong]
        return values

    def _values(self, name: str, path: Path) -> dict[str, Any]:
        try:
            if path.stat().st_size > MOST_FILE:
                self.wrong.append(f"{name}: must have at most {MOST_FILE} bytes")
                return {}
            return tomllib.loads(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            self.wrong.append(f"{name}: it is not UTF-8 text: {error.reason} at byte {error.start}")
        except (ValueError, RecursionError) as error:
            self.wrong.append(f"{name}: {error}")
        return {}


def _files(folder: Path) -> list[tuple[str, Path]]:
    """The TOML files that there are, by their names in the folder. Raises BadLayers, OSError."""
    found = [(BASE, path)] if (path := folder / BASE).exists() else []
    if not folder.is_dir():
        raise BadLayers(f"{folder}: there is no such folder")
    for part in ("groups", "instances"):
        inside = folder / part
        names = sorted(path.name for path in inside.iterdir() if path.suffix == ".toml") if inside.is_dir() else []
        for name in names:
            if not _NAMED.fullmatch(_stem(name)):
                raise BadLayers(f"{part}/{name}: its name must be 1 to 64 letters, digits, dots, _ and -")
            found.append((f"{part}/{name}", inside / name))
    if len(found) > MOST_FILES:
        raise BadLayers(f"{folder}: at most {MOST_FILES} files, not {len(found)}")
    return found


def _checked(values: Mapping[str, Any], wrong: list[str]) -> Iterator[tuple[str, Value]]:
    """Values by the variables' first names; what cannot be one goes to `wrong`, without its value: it may be a secret."""
    known = {name for each in Settings.model_fields for name in environment_names(each)}
    wrong += [
        f"{name[:60]}: no such setting (docs/configuration.md lists them)" for name in values if name not in known
    ]
    for each in Settings.model_fields:
        written = _written(each, values)
        if not written:
            continue
        if problem := _problem(each, values[written]):
            wrong.append(f"{written}: {problem}")
        else:
            yield environment_names(each)[0], values[written]


def _written(field: str, values: Mapping[str, Any]) -> str:
    """By which name a setting is set there; ours comes before others', as in an environment."""
    return next((name for name in environment_names(field) if name in values), "")


def _problem(field: str, value: Any) -> str:
    if field in OWN:
        return "a node's own environment alone says it"
    if is_secret(field):
        told = 'a secret is written { from = "environment" }, and each node has it in its own environment'
        return "" if value == FROM_ENVIRONMENT else told
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, (str, int, float)) for part in parts):
        return "must be a text, a number, true or false, or a list of these"
    if any(isinstance(part, float) and not math.isfinite(part) for part in parts):
        return "must be a finite number"
    if isinstance(value, list) and any("," in str(part) for part in parts):
        return "an entry of a list must have no comma in it"
    return ""


def _mistakes(values: Values) -> Iterator[tuple[str, str]]:
    """What a node that has nothing else would say against them: the variable, "" of several together, and what is wrong."""
    texts = as_texts(values)
    try:
        _Alone(**below((), "", texts))
    except ValidationError as error:
        for problem in error.errors(include_input=False):
            yield explain(problem, texts)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(_text, value))
    return str(value).lower() if isinstance(value, bool) else str(value)


def _in(name: str, part: str) -> bool:
    return name.startswith(f"{part}/")


def _stem(name: str) -> str:
    return name.rpartition("/")[2].removesuffix(".toml")


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(names) or "none: there is no file in groups/"
