"""What tells a model's files, and an adapter's, from others under the same name. Reads the disk: for threads.

An adapter is known by its content. A model is known by the names, sizes and times of its files, since to read some gigabytes for
each start would cost more than it is worth. A model whose files change while the server runs is known no more until the next
start: nobody can say which of them the engine has in memory.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from ai.cards import Card, places_of
from ai.custom.cards import CustomCard
from ai.types import GenerationRequest, Request

REMEMBERED = 10_000  # adapters' files whose content was read; some hundred bytes each


class _File(NamedTuple):
    """A file by its name in the folder where it was found, its size in bytes and its time in ns."""

    name: str
    size: int
    time: int


Seen = tuple[_File, ...]


class Fingerprints:
    """May be asked on several threads."""

    def __init__(self) -> None:
        self._models: dict[str, Seen] = {}  # as they were first seen in this life
        self._contents: OrderedDict[tuple[str, _File], str] = OrderedDict()
        self._lock = Lock()

    def of(self, request: Request, card: Card, files: Mapping[str, str]) -> tuple[object, ...] | None:
        """What a request is carried out with; `files` are those of its adapters that the card does not know.

        None where that cannot be told, or the same input may give something else another time.
        """
        if isinstance(card, CustomCard) and not (card.repeatable and card.code):
            return None
        try:
            model = self._model(card)
            return None if model is None else (model, self._adapters(request, card, files))
        except OSError:
            return None

    def _model(self, card: Card) -> Seen | None:
        seen = tuple(file for place in _places(card) if place for file in _seen(Path(place)))
        with self._lock:
            return seen if self._models.setdefault(card.name, seen) == seen else None

    def _adapters(self, request: Request, card: Card, files: Mapping[str, str]) -> tuple[tuple[str, float], ...]:
        uses = request.adapters if isinstance(request, GenerationRequest) else ()
        worn = ((self._content(Path(files.get(use.name) or card.adapters[use.name])), use.scale) for use in uses)
        return tuple(sorted(worn))  # they add up, in whatever order

    def _content(self, path: Path) -> str:
        """SHA-256 of a file, or of the files of a folder."""
        found = [(file.name if path.is_dir() else "", self._digest(path, file)) for file in _seen(path)]
        return hashlib.sha256(repr(found).encode(errors="surrogateescape")).hexdigest()

    def _digest(self, path: Path, file: _File) -> str:
        known = (str(path), file)
        with self._lock:
            if known in self._contents:
                self._contents.move_to_end(known)
                return self._contents[known]
        with open(path / file.name if path.is_dir() else path, "rb") as content:
            found = hashlib.file_digest(content, "sha256").hexdigest()
        with self._lock:
            self._contents[known] = found
            if len(self._contents) > REMEMBERED:
                self._contents.popitem(last=False)
        return found


def _places(card: Card) -> Iterator[str]:
    """Paths of what a card names, or what else they are: the id of a model of the hub, a class."""
    if isinstance(card, CustomCard):
        yield from (str(card.path), *card.code, card.path.argument or "")
    yield from places_of(card)


def _seen(path: Path) -> Iterator[_File]:
    """The files there, by name; what is none stands for itself. Raises OSError."""
    try:
        there = os.stat(path)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # no path at all: it has a NUL
        yield _File(str(path), 0, 0)
        return
    if not stat.S_ISDIR(there.st_mode):
        yield _File(path.name, there.st_size, there.st_mtime_ns)
        return
    for folder, inner, names in os.walk(path):
        inner.sort()
        for name in sorted(names):
            there = os.stat(os.path.join(folder, name))
            yield _File(os.path.relpath(os.path.join(folder, name), path), there.st_size, there.st_mtime_ns)
