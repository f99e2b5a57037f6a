"""atelier.gallery: pictures that form on a terminal."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from atelier.gallery import COLUMNS, SIDE, WIDTH, Gallery, gallery_for
from server.events import Phase, Preview, Progress


def a_console(**changes: Any) -> tuple[Console, io.StringIO]:
    """A wide terminal with all colours, and what was written to it."""
    screen = io.StringIO()
    settings = {"force_terminal": True, "width": WIDTH, "height": 60, "color_system": "truecolor", **changes}
    return Console(file=screen, **settings), screen


def a_preview(colour: tuple[int, int, int], size: tuple[int, int] = (16, 16)) -> Preview:
    """A preview of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return Preview(number=2, job_id="j", image_index=0, step=3, png=file.getvalue())


def a_progress(fraction: float) -> Progress:
    """So much is done."""
    return Progress(
        number=1, job_id="j", phase=Phase.DENOISING, step=1, total_steps=20, fraction=fraction, eta_seconds=1.0
    )


def last_drawn(console: Console, screen: io.StringIO, gallery: Gallery) -> str:
    """The gallery as it stands, drawn once."""
    screen.truncate(0)
    with gallery:
        pass
    return screen.getvalue()


def test_a_preview_is_shown_in_its_colours() -> None:
    """Two pixels to a character, whatever the preview's size; the caption is what was asked for."""
    console, screen = a_console()
    gallery = Gallery(console)
    red, blue = gallery.add("neon: a [red] star"), gallery.add("chalk: a moon")
    gallery.show(red, a_preview((250, 1, 2)))
    gallery.show(blue, a_preview((3, 4, 240), (128, 64)))
    drawn = last_drawn(console, screen, gallery)
    for colour in ("250;1;2", "3;4;240"):
        assert f"38;2;{colour};48;2;{colour}m" in drawn
    assert "neon: a [red]" in drawn
    assert "chalk: a moon" in drawn
    assert drawn.count("▀") == 2 * SIDE * SIDE // 2


def test_progress_and_ends_are_shown() -> None:
    """A bar as long as the job is far, a whole one at its end, or a word for what became of it."""
    console, screen = a_console(color_system=None)
    gallery = Gallery(console)
    rows = [gallery.add(f"job {number}") for number in range(COLUMNS + 1)]
    gallery.show(rows[0], a_progress(0.25))
    gallery.finish(rows[1], "succeeded")
    gallery.finish(rows[COLUMNS], "canceled")
    drawn = last_drawn(console, screen, gallery)
    assert "canceled" in drawn
    assert "succeeded" not in drawn
    assert all(f"job {number}" in drawn for number in rows)


@pytest.mark.parametrize("png", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_a_preview_that_is_no_picture_changes_nothing(png: bytes) -> None:
    """The frame stays as it was."""
    console, screen = a_console()
    gallery = Gallery(console)
    row = gallery.add("a star")
    gallery.show(row, a_preview((250, 1, 2)))
    gallery.show(row, Preview(number=3, job_id="j", image_index=0, step=4, png=png))
    assert "38;2;250;1;2" in last_drawn(console, screen, gallery)


def test_a_gallery_needs_room_and_colours() -> None:
    """On a narrow terminal, one without colours, or none at all, there is no gallery."""
    assert gallery_for(a_console()[0]) is not None
    for change in ({"width": WIDTH - 1}, {"color_system": None}, {"force_terminal": False}):
        assert gallery_for(a_console(**change)[0]) is None
