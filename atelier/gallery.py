"""Pictures that form on a terminal: a small one for each job, in half blocks, two pixels to a character."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from io import BytesIO
from types import TracebackType
from typing import Self

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console, RenderableType
from rich.live import Live
from rich.style import Style
from rich.table import Table
from rich.text import Text

from server import events

SIDE = 16  # pixels of a picture here; a preview of the embedded model has as many
COLUMNS = 5
CAPTION_LINES = 2
WIDTH = COLUMNS * (SIDE + 2)  # characters; on a narrower terminal bars are better
FRESH = 10  # times a second that the screen is drawn anew
_MOST_PIXELS = 1 << 20  # of a preview: a server's word is not trusted


@dataclass(slots=True)
class _Frame:
    """One job: its caption, how far it is, and what it looks like by now."""

    caption: str
    fraction: float = 0.0
    ended: str = ""
    pixels: Text = field(default_factory=lambda: _blocks(Image.new("RGB", (SIDE, SIDE), (40, 40, 40))))

    def __rich__(self) -> RenderableType:
        done = round(SIDE * self.fraction)
        bar = Text("━" * done, "green") + Text("━" * (SIDE - done), "bright_black")
        if self.ended not in ("", "succeeded"):
            bar = Text(self.ended[:SIDE], "red")
        lines = [*textwrap.wrap(self.caption, SIDE), *[""] * CAPTION_LINES][:CAPTION_LINES]
        return Text("\n").join([self.pixels, bar, Text("\n".join(lines))])


class Gallery:
    """A display (`atelier.display.Display`) of jobs that send previews."""

    def __init__(self, console: Console) -> None:
        self._frames: list[_Frame] = []
        self._live = Live(console=console, refresh_per_second=FRESH, get_renderable=self._grid)

    def add(self, prompt: str) -> int:
        """A new frame, empty yet."""
        self._frames.append(_Frame(prompt))
        return len(self._frames) - 1

    def show(self, row: int, event: events.Event) -> None:
        """Move the bar, or show the preview. One that is no picture is left aside."""
        if isinstance(event, events.Progress):
            self._frames[row].fraction = event.fraction
        elif isinstance(event, events.Preview):
            picture = _picture(event.png)
            if picture is not None:
                self._frames[row].pixels = _blocks(picture)

    def finish(self, row: int, word: str) -> None:
        """Fill the bar, or say in its place how the job ended."""
        self._frames[row].ended = word
        if word == "succeeded":
            self._frames[row].fraction = 1.0

    def _grid(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        for start in range(0, len(self._frames), COLUMNS):
            table.add_row(*self._frames[start : start + COLUMNS])
        return table

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()


def gallery_for(console: Console) -> Gallery | None:
    """A gallery, where the terminal is wide enough and has colours."""
    fits = console.is_terminal and console.width >= WIDTH and console.color_system is not None
    return Gallery(console) if fits else None


def _picture(png: bytes) -> Image.Image | None:
    try:
        with Image.open(BytesIO(png), formats=["PNG"]) as opened:
            if opened.width * opened.height > _MOST_PIXELS:
                return None
            return opened.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    except (OSError, SyntaxError, ValueError):  # Pillow's for bad files
        return None


def _blocks(picture: Image.Image) -> Text:
    """[SIDE, SIDE] pixels as SIDE / 2 lines: each character's upper half is one pixel, its ground the one below."""
    pixels, text = np.asarray(picture), Text()
    for y in range(0, SIDE, 2):
        for x in range(SIDE):
            upper, lower = (Color.from_rgb(*pixels[y + below, x].tolist()) for below in (0, 1))
            text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n" if y + 2 < SIDE else "")
    return text
