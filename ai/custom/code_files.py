"""Which files of code a class may run: an answer of it is the same as before for as long as none of them has changed.

They are those of its top-level package; of a class in one file those beside it, with the packages there, unless it was installed
among all other packages; and whatever of that folder importing it has brought. What is installed elsewhere is not among them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from itertools import chain, islice

MOST = 5000  # each is looked at for every prediction; a class among more of them has answered nothing before
_SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES)
_INSTALLED = ("site-packages", "dist-packages")


def code_files(modules: Iterable[str], most: int = MOST) -> tuple[str, ...]:
    """Whole paths, sorted, of what these imported modules may run; none where they cannot be told, or are more than `most`."""
    found: set[str] = set()
    for module in modules:
        top = sys.modules.get(module.partition(".")[0])
        packages = [os.path.abspath(place) for place in getattr(top, "__path__", ())]
        file = getattr(top, "__file__", None)
        if not packages and not file:
            return ()
        places = packages or [os.path.dirname(os.path.abspath(str(file)))]
        paths = _of_packages(places) if packages else _beside(places[0])
        found.update(islice(paths, most + 1))
        found |= _imported(places)
    return tuple(sorted(found)) if len(found) <= most else ()


def _of_packages(places: Iterable[str]) -> Iterator[str]:
    for place in places:
        for folder, inner, names in os.walk(place):
            inner[:] = [name for name in inner if not name.startswith((".", "__"))]
            yield from _code(folder, names)


def _beside(place: str) -> Iterator[str]:
    inner = [name for name in os.listdir(place) if os.path.exists(os.path.join(place, name, "__init__.py"))]
    packages = () if os.path.basename(place) in _INSTALLED else (os.path.join(place, name) for name in inner)
    return chain(_code(place, os.listdir(place)), _of_packages(packages))


def _code(folder: str, names: Iterable[str]) -> Iterator[str]:
    return (os.path.join(folder, name) for name in names if name.endswith(_SUFFIXES))


def _imported(places: Iterable[str]) -> set[str]:
    """Files of the modules that are imported and lie below these places, but not among packages that were installed there."""
    files = (getattr(module, "__file__", None) for module in tuple(sys.modules.values()))
    paths = [os.path.abspath(file) for file in files if isinstance(file, str) and file.endswith(_SUFFIXES)]
    roots = [os.path.join(place, "") for place in places]
    below = ((path, path.removeprefix(root)) for root in roots for path in paths if path.startswith(root))
    return {path for path, inner in below if not set(_INSTALLED).intersection(inner.split(os.sep))}
