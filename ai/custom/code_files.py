"""Which files of code a class may run: an answer of it is the same as before for as long as none of them has changed.

They are those of its top-level package; of a class in one file those beside it, with the packages there, unless it was installed
among all other packages; and whatever of that folder importing it has brought. What is installed elsewhere is not among them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES

MOST = 500  # each is looked at for every prediction; a class among more of them has answered nothing before
MOST_ENTRIES = 20_000  # files and folders of any kind that are looked at to find them: weights may lie beside code
_SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
_INSTALLED = ("site-packages", "dist-packages")


class _TooMany(Exception):
    """More lies there than is worth looking at."""


def code_files(modules: Iterable[str], most: int = MOST, most_entries: int = MOST_ENTRIES) -> tuple[str, ...]:
    """Whole paths, sorted, of what these imported modules may run; none where they cannot be told, or are more than `most`."""
    search = _Search(most, most_entries)
    try:
        for module in modules:
            own = getattr(sys.modules.get(module), "__file__", None)
            search.look(sys.modules.get(module.partition(".")[0]))
            if own is None or os.path.abspath(own) not in search.found:
                return ()
    except (_TooMany, OSError):
        return ()
    return tuple(sorted(search.found))


class _Search:
    """Goes through folders, and no further than it may. Raises _TooMany."""

    def __init__(self, most: int, most_entries: int) -> None:
        self.found: set[str] = set()
        self._most = most
        self._entries_left = most_entries

    def look(self, top: object) -> None:
        """For the code of a top-level module or package."""
        places = [os.path.abspath(place) for place in getattr(top, "__path__", ())]
        if places:
            self._packages(places)
        elif file := getattr(top, "__file__", None):
            places = [os.path.dirname(os.path.abspath(file))]
            self._beside(places[0])
        self._add(_imported(places))

    def _packages(self, places: Iterable[str]) -> None:
        folders = list(places)
        while folders:
            files, inner = self._entries(folders.pop())
            self._add(files)
            plain = (path for path in inner if not os.path.basename(path).startswith((".", "__")))
            folders += [path for path in plain if not os.path.islink(path)]

    def _beside(self, place: str) -> None:
        files, inner = self._entries(place)
        self._add(files)
        if os.path.basename(place) not in _INSTALLED:
            self._packages(path for path in inner if os.path.exists(os.path.join(path, "__init__.py")))

    def _entries(self, folder: str) -> tuple[list[str], list[str]]:
        """Its files of code, and the folders in it. Raises OSError."""
        files: list[str] = []
        inner: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries_left -= 1
                if self._entries_left < 0:
                    raise _TooMany
                if entry.is_dir():
                    inner.append(entry.path)
                elif entry.name.endswith(_SUFFIXES):
                    files.append(entry.path)
        return files, inner

    def _add(self, files: Iterable[str]) -> None:
        self.found.update(files)
        if len(self.found) > self._most:
            raise _TooMany


def _imported(places: Iterable[str]) -> Iterator[str]:
    """Files of the modules that are imported and lie below these places, but not among packages that were installed there."""
    files = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    paths = [os.path.abspath(file) for file in files if isinstance(file, str) and file.endswith(_SUFFIXES)]
    roots = [os.path.join(place, "") for place in places]
    below = ((path, path.removeprefix(root)) for root in roots for path in paths if path.startswith(root))
    return (path for path, inner in below if not set(_INSTALLED).intersection(inner.split(os.sep)))
