"""Where the files of a registered model may lie, as its owner writes it.

/srv/models/fox, fox           a folder or a .safetensors file on this machine, in one of the operator's folders
storage:models/fox/            a folder, or a .safetensors file, in the storage
hub:stabilityai/sdxl@main      a model of the hub, where the operator allows that; without `hub:` where no such folder is here
"""

from __future__ import annotations

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ai.adapters.folder import SUFFIX
from ai.pickles import PICKLES
from ai.types import ModelLoadError
from server.errors import Refusal
from server.object_keys import key_parts

FIELD = "model_path"
STORAGE, HUB = "storage:", "hub:"
MAX_PATH = 1000  # characters
_HUB = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9][\w./-]{0,99}", re.ASCII)


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A path as it was given."""

    path: str


@dataclass(frozen=True, slots=True)
class InStorage:
    """A folder's key ends with a slash."""

    key: str


@dataclass(frozen=True, slots=True)
class OnHub:
    """A repository of the hub, and its revision."""

    repository: str
    revision: str


ModelPlace = OnDisk | InStorage | OnHub


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceRules:
    """`roots` are the folders in which models may lie, `keys` what a key must begin with, `hub` whether the hub is asked."""

    roots: Sequence[Path] = ()
    keys: Sequence[str] = ()
    hub: bool = False


def read_place(given: str, rules: PlaceRules) -> ModelPlace:
    """What is meant. Looks at no file; raises Refusal for what is never taken."""
    if not given.strip() or len(given) > MAX_PATH or "\0" in given:
        raise Refusal.invalid(FIELD, f"a path of 1 to {MAX_PATH} characters", given)
    if given.startswith(STORAGE):
        return _stored(given.removeprefix(STORAGE), given, rules)
    if given.startswith(HUB):
        return _hub(given.removeprefix(HUB), given, rules)
    if PurePosixPath(given).suffix.lower() in PICKLES:
        raise Refusal.invalid(FIELD, f"a folder, or a {SUFFIX} file: others can run code", given)
    if ".." in PurePosixPath(given).parts or given.startswith("~"):
        raise Refusal.invalid(FIELD, "a path without ..", given)
    if not rules.roots and rules.hub and _HUB.fullmatch(given.partition("@")[0]):
        return _hub(given, given, rules)
    if not rules.roots:
        limit = "storage:KEY; this server takes no folders (ATELIER_MODEL_ROOTS, MODEL_CACHE_DIR)"
        raise Refusal.invalid(FIELD, limit, given)
    if given.startswith("/") and not any(PurePosixPath(given).is_relative_to(root) for root in rules.roots):
        raise Refusal.invalid(FIELD, "in one of the folders that this server allows for models", given)
    return OnDisk(given)


def find_local(place: OnDisk, rules: PlaceRules) -> Path:
    """The folder or file. On a thread; raises ModelLoadError for one that is not there, or that a link leads to."""
    for root in rules.roots:
        parts = PurePosixPath(place.path)
        if parts.is_absolute():
            if not parts.is_relative_to(root):
                continue
            parts = parts.relative_to(root)
        found = _step_by_step(root, parts)
        if found is not None:
            return found
    raise ModelLoadError(f"{place.path}: there is no such file or folder on this machine")


def instead(place: ModelPlace, rules: PlaceRules) -> ModelPlace | None:
    """What else may have been meant by a path that is not here: a hub id."""
    if isinstance(place, OnDisk) and rules.hub and _HUB.fullmatch(place.path.partition("@")[0]):
        return OnHub(place.path.partition("@")[0], place.path.partition("@")[2])
    return None


def _step_by_step(root: Path, parts: PurePosixPath) -> Path | None:
    path, kind = root, stat.S_IFDIR
    for part in parts.parts:
        path = path / part
        try:
            kind = path.lstat().st_mode
        except OSError:
            return None
        if stat.S_ISLNK(kind):
            raise ModelLoadError(f"{PurePosixPath(*parts.parts)}: leads over a link, which is not followed")
    return path if parts.parts and (stat.S_ISDIR(kind) or stat.S_ISREG(kind)) else None


def _stored(key: str, given: str, rules: PlaceRules) -> InStorage:
    try:
        key_parts(key.removesuffix("/"))
    except ValueError:
        raise Refusal.invalid(FIELD, "storage:KEY, a key a/b/c without .. and empty parts", given) from None
    if not any(key.startswith(prefix) for prefix in rules.keys):
        raise Refusal.invalid(
            FIELD, f"storage: and a key that begins with {' or '.join(rules.keys) or 'nothing'}", given
        )
    if PurePosixPath(key).suffix.lower() in PICKLES:
        raise Refusal.invalid(FIELD, f"a folder, or a {SUFFIX} file: others can run code", given)
    return InStorage(key if key.endswith((SUFFIX, "/")) else f"{key}/")


def _hub(told: str, given: str, rules: PlaceRules) -> OnHub:
    repository, at, revision = told.partition("@")
    if not rules.hub:
        raise Refusal.invalid(FIELD, "a folder, or storage:KEY; this server asks no hub (ATELIER_MODEL_HUB)", given)
    if not _HUB.fullmatch(repository) or (at and not _REVISION.fullmatch(revision)) or ".." in told:
        raise Refusal.invalid(FIELD, "hub:OWNER/NAME or hub:OWNER/NAME@REVISION", given)
    return OnHub(repository, revision)
