"""What a reader of a source is: it blocks, is called on threads, and gives one frame after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class SourceFailed(Exception):
    """A source cannot be opened, or gives no frames any more. The text is for people, and names no path."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model takes: so many values, by their names, or pictures of so many pixels."""

    names: tuple[str, ...] = ()
    width: int = 0
    height: int = 0

    @property
    def pictures(self) -> bool:
        """Whether it takes pictures."""
        return self.width > 0


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """One input: `values` in the order of the model's names, or `image`, red, green, blue, 3 × height × width bytes.

    `captured_us` is in microseconds since 1970, 0 for the moment at which it is handed on.
    """

    values: tuple[float, ...] = ()
    image: bytes = b""
    captured_us: int = 0


@dataclass(frozen=True, slots=True)
class Timed:
    """A frame, and when it is due: seconds after the source's first; None as soon as it is there."""

    frame: SourceFrame
    due: float | None = None


class Reader(Protocol):
    """A source that is opened for one shape. All of it blocks; its methods are called one at a time."""

    def open(self) -> None:
        """Raises SourceFailed."""
        ...

    def read(self) -> Timed | None:
        """The next frame; None at the end. Raises SourceFailed."""
        ...

    def close(self) -> None:
        """Let go of it, whatever state it is in."""
        ...
