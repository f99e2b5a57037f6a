"""The fonts of this machine, and which of them has which character.

A shelf lists the font files of its folders on first use and reads a file's character map only when the files before it
lack a character, so plain Latin text opens one font. Drawing fonts are made afresh for every caller, because a FreeType
face may not be shared between threads; a shelf may.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

from fontTools.ttLib import TTFont  # type: ignore[import-untyped]
from PIL import ImageFont, features

# Bold, because thin strokes drown in a busy picture; broad coverage first.
PREFERRED = (
    "DejaVuSans-Bold", "NotoSans-Bold", "NanumGothicBold", "NanumBarunGothicBold", "NotoSansCJK-Bold", "NotoSansKR-Bold",
    "NotoColorEmoji",
)  # fmt: skip
SUFFIXES = (".ttf", ".otf", ".ttc", ".otc")
FIRST_PICTOGRAPH = 0x1F000  # from here Unicode's blocks are emoji and game symbols
BOX = "□"  # stands for a character that no font has

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cluster:
    """Characters that are drawn as one (a letter and its accents, an emoji sequence), and the face that has them."""

    text: str
    face: Face


class Face:
    """One font file, or Pillow's built-in font (`path` None). Read on first use, by one thread."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.is_emoji = path is not None and "emoji" in path.stem.lower()
        self._contents = _Once(lambda: _read(path))

    def has(self, text: str) -> bool:
        """Whether every visible character of the text is in the font. A broken font has none."""
        return all(ord(character) in self._contents().characters for character in text if not is_ignorable(character))

    @property
    def strike(self) -> int:
        """The one pixel size of a bitmap font; 0 where any size can be drawn."""
        return self._contents().strike

    def at(self, size: float, layout: ImageFont.Layout) -> ImageFont.FreeTypeFont:
        """The font at `size` pixels per em, or at its strike, for the calling thread only."""
        return _opened(self.path, self.strike or size, layout)


class FontShelf:
    """The fonts in some folders, best first, and Pillow's built-in one last. Threads may share it."""

    def __init__(self, folders: Iterable[Path], layout: ImageFont.Layout | None = None) -> None:
        self.layout = _best_layout() if layout is None else layout
        self._faces = _Once(lambda: tuple(_faces(tuple(folders))))

    @property
    def faces(self) -> tuple[Face, ...]:
        """Every face, in the order in which they are asked."""
        return self._faces()

    def clusters(self, text: str) -> tuple[list[Cluster], list[str]]:
        """The text in pieces that each have a face, a box standing for what no face has; and those missing characters."""
        pieces: list[Cluster] = []
        missing: list[str] = []
        for cluster in split_clusters(text):
            face = self._face_for(cluster, pieces[-1].face if pieces else None)
            if face is None:
                missing.append(next((c for c in cluster if not self._face_for(c, None)), cluster[0]))
                pieces.append(Cluster(BOX, self._face_for(BOX, None) or self.faces[0]))
            else:
                pieces.append(Cluster(cluster, face))
        return pieces, list(dict.fromkeys(missing))

    def _face_for(self, cluster: str, before: Face | None) -> Face | None:
        """The first face that has it all; spaces and punctuation stay with the face before them."""
        if (
            before is not None
            and not before.is_emoji
            and unicodedata.category(cluster[0])[0] in "ZP"
            and before.has(cluster)
        ):
            return before
        faces = sorted(self.faces, key=lambda face: face.is_emoji != _is_emoji(cluster))
        whole = next((face for face in faces if face.has(cluster)), None)
        return whole or next((face for face in faces if face.has(cluster[0])), None)


@cache
def installed_fonts() -> FontShelf:
    """The shelf of this machine's standard folders: made once, and empty until first used."""
    folders = ("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts", "/Library/Fonts",
               "/System/Library/Fonts", "C:/Windows/Fonts")  # fmt: skip
    return FontShelf([Path(os.path.expanduser(folder)) for folder in folders])


def split_clusters(text: str) -> list[str]:
    """The text cut where a reader would put the cursor: simpler than Unicode's annex 29, and enough to choose fonts."""
    clusters: list[str] = []
    for character in text:
        if clusters and _continues(clusters[-1], character):
            clusters[-1] += character
        else:
            clusters.append(character)
    return clusters


def is_ignorable(character: str) -> bool:
    """Joiners, variation selectors, direction marks: no font need have them."""
    return unicodedata.category(character) == "Cf" or _is_selector(character)


def _continues(cluster: str, character: str) -> bool:
    if _is_flag_half(character):
        return len(cluster) == 1 and _is_flag_half(cluster)
    joined = cluster[-1] == "\u200d" and _is_emoji(cluster)
    skin_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return joined or skin_tone or is_ignorable(character) or unicodedata.category(character)[0] == "M"


def _is_emoji(cluster: str) -> bool:
    return (ord(cluster[0]) >= FIRST_PICTOGRAPH and unicodedata.category(cluster[0]) == "So") or "\ufe0f" in cluster


def _is_flag_half(text: str) -> bool:
    return "\U0001f1e6" <= text[0] <= "\U0001f1ff"


def _is_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"


class _Once(Generic[T]):
    """A value made at the first call, by whichever thread comes first, while the others wait."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: list[T] = []

    def __call__(self) -> T:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]


@dataclass(frozen=True, slots=True)
class _Contents:
    characters: frozenset[int]
    strike: int


def _faces(folders: tuple[Path, ...]) -> Iterator[Face]:
    paths = {Path(where, name) for folder in folders for where, _, names in os.walk(folder) for name in names}
    fonts = (path for path in paths if path.suffix.lower() in SUFFIXES)
    yield from (Face(path) for path in sorted(fonts, key=_rank))
    yield Face(None)


def _rank(path: Path) -> tuple[object, ...]:
    name = path.stem.lower()
    preferred = PREFERRED.index(path.stem) if path.stem in PREFERRED else len(PREFERRED)
    odd = any(word in name for word in ("emoji", "italic", "oblique", "mono", "condensed", "serif", "math"))
    return preferred, odd, "bold" not in name, name, str(path)


def _read(path: Path | None) -> _Contents:
    try:
        with path.open("rb") if path else _built_in() as file, TTFont(file, fontNumber=0, lazy=True) as font:
            contents = _Contents(frozenset(font.getBestCmap() or ()), _strike(font))
        _opened(path, contents.strike or 10, ImageFont.Layout.BASIC)
    except Exception:  # a damaged file fails in any way at all, and then has no characters for us
        return _Contents(frozenset(), 0)
    return contents


def _built_in() -> BytesIO:
    """Pillow's own font file, which it carries in its source."""
    font = ImageFont.load_default(10)
    if not (isinstance(font, ImageFont.FreeTypeFont) and isinstance(font.path, BytesIO)):
        raise OSError("Pillow was built without FreeType")
    return BytesIO(font.path.getvalue())


def _strike(font: TTFont) -> int:
    """The largest of a colour bitmap font's sizes, whether or not it has (blank) outlines too; 0 for other fonts."""
    if "CBLC" in font:
        return max(int(strike.bitmapSizeTable.ppemY) for strike in font["CBLC"].strikes)
    return max((int(size) for size in font["sbix"].strikes), default=0) if "sbix" in font else 0


def _opened(path: Path | None, size: float, layout: ImageFont.Layout) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(path) if path else _built_in(), size, layout_engine=layout)


def _best_layout() -> ImageFont.Layout:
    """Raqm shapes and orders scripts; where it is missing, letters stand one by one."""
    return ImageFont.Layout.RAQM if features.check("raqm") else ImageFont.Layout.BASIC
