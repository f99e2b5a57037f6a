"""Makes the artists of the ten styles: `python -m models.training.artists`.

Each has a name and a mark: for five a text, for five a small picture with transparency, drawn here. They lie beside the
adapters, as docs/adapters.md says. The artists are invented.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi, sin
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

_WIDE, _HIGH = 192, 96  # pixels; four times what a mark has on a picture of 128
_FINE = 4  # drawn so much larger, then averaged
_WHITE, _DARK, _SEAL = (255, 255, 255, 255), (16, 16, 16, 255), (200, 30, 40, 255)

Drawing = Callable[[ImageDraw.ImageDraw], None]


@dataclass(frozen=True, slots=True)
class Artist:
    """A name for the metadata, and a mark: the drawing, or else the text."""

    name: str
    text: str
    size: str
    drawing: Drawing | None = None


def _points(*pairs: tuple[float, float]) -> list[tuple[float, float]]:
    return [(x * _FINE, y * _FINE) for x, y in pairs]


def _stroke(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], width: float) -> None:
    draw.line(points, fill=_WHITE, width=round(width * _FINE), joint="curve")
    for x, y in (points[0], points[-1]):
        reach = width * _FINE / 2
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=_WHITE)


def _squares(draw: ImageDraw.ImageDraw, rows: tuple[str, ...], side: float, gap: float) -> None:
    """A letter pattern: a square for each #."""
    left, top = (_WIDE - len(rows[0]) * side) / 2, (_HIGH - len(rows) * side) / 2
    for y, row in enumerate(rows):
        for x, cell in enumerate(row):
            if cell == "#":
                box = _points(
                    (left + x * side, top + y * side), (left + (x + 1) * side - gap, top + (y + 1) * side - gap)
                )
                draw.rectangle([*box[0], *box[1]], fill=_WHITE)


def _pixels(draw: ImageDraw.ImageDraw) -> None:
    """BO, as an arcade machine writes it."""
    _squares(draw, ("###....###.", "#..#..#...#.", "###...#...#.", "#..#..#...#.", "###....###."), 15, 0)


def _tiles(draw: ImageDraw.ImageDraw) -> None:
    """TR, laid in tiles."""
    _squares(draw, ("#####.####.", "..#...#...#", "..#...####.", "..#...#..#.", "..#...#...#"), 16, 3)


def _seal(draw: ImageDraw.ImageDraw) -> None:
    """A red seal with three waves."""
    draw.rounded_rectangle([*_points((52, 4))[0], *_points((140, 92))[0]], 14 * _FINE, fill=_SEAL)
    for top in (28, 48, 68):
        _stroke(draw, _points(*[(64 + x, top + 6 * sin(x / 64 * 4 * pi)) for x in range(65)]), 7)


def _flourish(draw: ImageDraw.ImageDraw) -> None:
    """A K in one breath, and a line under it."""
    _stroke(draw, _points((40, 10), (34, 72)), 9)
    _stroke(draw, _points((82, 12), (38, 44), (84, 70), (100, 70)), 9)
    loops = [
        (100 + 62 * t + 7 * sin(6 * pi * t), 58 + 13 * cos(6 * pi * t) - 2 * t) for t in (i / 60 for i in range(61))
    ]
    _stroke(draw, _points(*loops), 7)
    _stroke(draw, _points((24, 88), (170, 82)), 5)


def _drafted(draw: ImageDraw.ImageDraw) -> None:
    """An A between compasses' circles, with its measure."""
    circle = _points((48, 2), (140, 94))
    draw.ellipse([*circle[0], *circle[1]], outline=_WHITE, width=6 * _FINE)
    _stroke(draw, _points((68, 76), (94, 18), (120, 76)), 8)
    _stroke(draw, _points((79, 56), (109, 56)), 7)
    _stroke(draw, _points((6, 48), (46, 48)), 5)
    _stroke(draw, _points((142, 48), (184, 48)), 5)


ARTISTS: Mapping[str, Artist] = {
    "outline": Artist("Ines Linhart", "Ines L.", "large"),
    "pixel": Artist("Bo Byte", "Bo", "medium", _pixels),
    "watercolour": Artist("Aoi Mizu", "Aoi", "small", _seal),
    "neon": Artist("Nia Luz", "Nia Luz", "large"),
    "stripes": Artist("Zora Band", "Zora", "medium"),
    "mosaic": Artist("Tessa Rae", "T. Rae", "medium", _tiles),
    "chalk": Artist("Kalle Griffel", "Kalle", "large", _flourish),
    "poster": Artist("Paul Akt", "P. Akt", "large"),
    "blueprint": Artist("Ada Plan", "Ada", "large", _drafted),
    "gradient": Artist("Dawn Verlauf", "Dawn", "medium"),
}


def draw_mark(drawing: Drawing) -> Image.Image:
    """A drawing in white with a dark rim, so that it can be seen on any ground; RGBA, cropped to what is visible."""
    fine = Image.new("RGBA", (_WIDE * _FINE, _HIGH * _FINE), (0, 0, 0, 0))
    drawing(ImageDraw.Draw(fine))
    alpha = fine.getchannel("A")
    rim = Image.new("RGBA", fine.size, (0, 0, 0, 0))
    rim.paste(_DARK, mask=alpha.resize((_WIDE, _HIGH)).filter(ImageFilter.MaxFilter(9)).resize(fine.size))
    mark = Image.alpha_composite(rim, fine).resize((_WIDE, _HIGH), Image.Resampling.BOX)
    return mark.crop(mark.getchannel("A").getbbox())


def write(folder: Path) -> None:
    """Write every artist's files into a folder of adapters."""
    folder.mkdir(parents=True, exist_ok=True)
    for style, artist in ARTISTS.items():
        lines = [f'name = "{artist.name}"', f'text = "{artist.text}"', f'size = "{artist.size}"', "opacity = 0.85"]
        (folder / f"{style}.artist.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if artist.drawing is not None:
            draw_mark(artist.drawing).quantize(32).save(folder / f"{style}.artist.png", optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m models.training.artists", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("models/demo/adapters"))
    write(parser.parse_args().out)
