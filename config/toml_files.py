"""A TOML file of the operator's, held against a pydantic model."""

from __future__ import annotations

import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

M = TypeVar("M", bound=BaseModel)


def read_toml(path: Path, shape: type[M], bad: type[ValueError], *, tags: Collection[str] = ()) -> M:
    """What the file says. Raises `bad`, whose text names the file, and the key of each mistake; entries of a list count from 1.

    `tags` are the words by which pydantic tells the kinds of an entry apart: they are no keys.
    """
    try:
        told = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise bad(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise bad(f"{path}: {error}") from None
    try:
        return shape.model_validate(told)
    except ValidationError as error:
        mistakes = error.errors(include_input=False)
        raise bad("\n".join(f"{path}: {_explained(one, tags)}" for one in mistakes)) from None


def _explained(problem: Any, tags: Collection[str]) -> str:
    place = [part for part in problem["loc"] if part not in tags]
    return f"{'.'.join(str(part + 1) if isinstance(part, int) else part for part in place)}: {problem['msg']}"
