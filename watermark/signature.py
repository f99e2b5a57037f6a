"""What a signature is: a text or an image, where it stands, how large and how strong. Validated when made.

Making one costs microseconds and decodes nothing, so a door may do it on the reactor thread.
"""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from watermark import png as png_file

MARGIN = 10  # pixels between the mark's visible box and the picture's edges; outside contract A
DEFAULT_OPACITY = 0.7  # outside contract A
MAX_TEXT = 100  # characters; more would be too small to read in a third of a picture
MAX_ARTIST = 200  # characters; written into the file, not painted
MAX_IMAGE_BYTES = 4 << 20  # the largest allowed image, uncompressed
MAX_IMAGE_PIXELS = 1 << 20  # a mark is at most 0.35 of a picture's width: 717 pixels of 2048


class SignatureError(ValueError):
    """A signature that cannot be: `field` and `limit` for programs, `str(error)` for people."""

    def __init__(self, field: str, limit: str, message: str) -> None:
        super().__init__(field, limit, message)
        self.field = field
        self.limit = limit
        self.message = message

    def __str__(self) -> str:
        return self.message


class _Named(StrEnum):
    @classmethod
    def named(cls, name: str) -> Self:
        """The member of this name. Raises SignatureError, which lists them."""
        try:
            return cls(name)
        except ValueError:
            field = cls.__name__.lower()
            raise _refusal(field, "one of " + ", ".join(cls), repr(name)) from None


class Position(_Named):
    """Where in the picture the mark stands."""

    TOP_LEFT = "top-left"
    TOP_CENTER = "top-center"
    TOP_RIGHT = "top-right"
    BOTTOM_LEFT = "bottom-left"
    BOTTOM_CENTER = "bottom-center"
    BOTTOM_RIGHT = "bottom-right"

    @property
    def horizontal(self) -> str:
        """left, center or right."""
        return self.value.partition("-")[2]

    @property
    def at_top(self) -> bool:
        """At the upper edge rather than the lower."""
        return self.value.startswith("top")


class Size(_Named):
    """How wide the mark is."""

    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"

    @property
    def share(self) -> float:
        """The mark's part of the picture's width."""
        return {Size.SMALL: 0.15, Size.MEDIUM: 0.25, Size.LARGE: 0.35}[self]


@dataclass(frozen=True, slots=True)
class TextMark:
    """One line of text, kept in Unicode's composed form without outer space; 1 to 100 characters.

    Line breaks and other control characters are refused, not dropped: what is painted is what was asked for.
    """

    text: str

    def __post_init__(self) -> None:
        """Raise SignatureError(text)."""
        text = unicodedata.normalize("NFC", self.text).strip()
        if any(_is_control(character) for character in text):
            raise _refusal("text", "one line without control characters", repr(text[:MAX_TEXT]))
        if not any(_is_visible(character) for character in text):
            raise _refusal("text", "at least 1 visible character", repr(text[:MAX_TEXT]))
        if len(text) > MAX_TEXT:
            raise _refusal("text", f"at most {MAX_TEXT} characters", str(len(text)))
        object.__setattr__(self, "text", text)


@dataclass(frozen=True, slots=True, repr=False)
class ImageMark:
    """A PNG with or without transparency: one picture, at most 4 MiB and 1,048,576 pixels.

    Checked here: structure, size and every checksum. What only decoding finds (an IDAT that is no zlib stream under a
    right checksum) is found by `watermark.signing.decoded`, which `sign` calls.
    """

    png: bytes

    def __post_init__(self) -> None:
        """Raise SignatureError(image)."""
        if len(self.png) > MAX_IMAGE_BYTES:
            raise _refusal("image", f"at most {MAX_IMAGE_BYTES} bytes", str(len(self.png)))
        try:
            width, height = png_file.size_of(self.png)
            if width * height > MAX_IMAGE_PIXELS:
                raise _refusal("image", f"at most {MAX_IMAGE_PIXELS} pixels", f"{width} × {height}")
            png_file.essential(self.png)
        except png_file.BadPng as error:
            raise unreadable_image(str(error)) from error

    def __repr__(self) -> str:
        """Short enough for a log, and different for different bytes."""
        return f"ImageMark(sha256={hashlib.sha256(self.png).hexdigest()})"


@dataclass(frozen=True, slots=True)
class Signature:
    """A mark and how it is put on a picture. `opacity` is 0 (nothing) to 1; `artist` goes into the file's metadata."""

    mark: TextMark | ImageMark
    position: Position = Position.BOTTOM_RIGHT
    size: Size = Size.MEDIUM
    opacity: float = DEFAULT_OPACITY
    artist: str = ""

    def __post_init__(self) -> None:
        """Raise SignatureError(opacity or artist)."""
        is_number = isinstance(self.opacity, float | int) and not isinstance(self.opacity, bool)
        if not (is_number and 0 <= self.opacity <= 1):  # so written that NaN is refused too
            raise _refusal("opacity", "0 to 1", repr(self.opacity))
        if len(self.artist) > MAX_ARTIST:
            raise _refusal("artist", f"at most {MAX_ARTIST} characters", str(len(self.artist)))


def unreadable_image(why: str) -> SignatureError:
    """The refusal of an image mark that is no sound PNG."""
    return SignatureError("image", "a sound, still PNG", f"signature image must be a sound, still PNG: {why}")


def _refusal(field: str, limit: str, got: str) -> SignatureError:
    return SignatureError(field, limit, f"signature {field} must be {limit}, not {got}")


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")


def _is_visible(character: str) -> bool:
    return unicodedata.category(character)[0] not in "CZ" or unicodedata.category(character) in ("Co", "Cn")
