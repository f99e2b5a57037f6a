"""The twelve shapes, drawn by Pillow as masks.

Every shape fills a box of side 2 around its centre on its longer side: x to the right and y downward, from -1 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import cos, pi, sin

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Floats = NDArray[np.float32]
Points = list[tuple[float, float]]

SIZE = 128
_FINE = 3  # masks are drawn at three times the size, then averaged: nine levels on an edge pixel


class Pen:
    """Draws in a shape's own coordinates on a picture `_FINE` times as large."""

    def __init__(self, size: int, x: float, y: float, radius: float) -> None:
        self.image = Image.new("L", (size * _FINE, size * _FINE), 0)
        self._draw = ImageDraw.Draw(self.image)
        self._x, self._y, self._radius = x * _FINE, y * _FINE, radius * _FINE

    def polygon(self, points: Points, fill: int = 255) -> None:
        """A filled polygon."""
        self._draw.polygon([(self._x + self._radius * x, self._y + self._radius * y) for x, y in points], fill=fill)

    def disc(self, x: float, y: float, radius: float, fill: int = 255) -> None:
        """A filled circle; fill 0 cuts a hole."""
        centre_x, centre_y, reach = self._x + self._radius * x, self._y + self._radius * y, self._radius * radius
        self._draw.ellipse((centre_x - reach, centre_y - reach, centre_x + reach, centre_y + reach), fill=fill)


def _ring_of_points(count: int, radii: tuple[float, ...], turn: float = -pi / 2) -> Points:
    total = count * len(radii)
    return [
        (radii[i % len(radii)] * cos(turn + 2 * pi * i / total), radii[i % len(radii)] * sin(turn + 2 * pi * i / total))
        for i in range(total)
    ]


def _circle(pen: Pen) -> None:
    pen.disc(0, 0, 1)


def _square(pen: Pen) -> None:
    pen.polygon([(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)])


def _triangle(pen: Pen) -> None:
    pen.polygon([(0, -0.9), (1, 0.9), (-1, 0.9)])


def _star(pen: Pen) -> None:
    pen.polygon([(x * 1.05, y * 1.05 + 0.08) for x, y in _ring_of_points(5, (1.0, 0.42))])


def _heart(pen: Pen) -> None:
    curve = [2 * pi * i / 60 for i in range(60)]
    across = [16 * sin(t) ** 3 / 16 for t in curve]
    down = [-(13 * cos(t) - 5 * cos(2 * t) - 2 * cos(3 * t) - cos(4 * t)) / 16 - 0.15 for t in curve]
    pen.polygon(list(zip(across, down, strict=True)))


def _diamond(pen: Pen) -> None:
    pen.polygon([(0, -1), (0.65, 0), (0, 1), (-0.65, 0)])


def _cross(pen: Pen) -> None:
    for points in ([(-0.3, -1), (0.3, -1), (0.3, 1), (-0.3, 1)], [(-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)]):
        pen.polygon(points)  # type: ignore[arg-type]  # the mixed ints and floats of a list of tuples


def _ring(pen: Pen) -> None:
    pen.disc(0, 0, 1)
    pen.disc(0, 0, 0.56, fill=0)


def _moon(pen: Pen) -> None:
    pen.disc(0.15, 0, 1)
    pen.disc(0.62, -0.12, 0.85, fill=0)


def _house(pen: Pen) -> None:
    pen.polygon([(0, -1), (1, -0.15), (-1, -0.15)])
    pen.polygon([(-0.72, -0.16), (0.72, -0.16), (0.72, 0.95), (-0.72, 0.95)])
    pen.polygon([(-0.2, 0.35), (0.2, 0.35), (0.2, 0.96), (-0.2, 0.96)], fill=0)


def _tree(pen: Pen) -> None:
    pen.polygon([(0, -1), (0.7, 0.45), (-0.7, 0.45)])
    pen.polygon([(-0.18, 0.44), (0.18, 0.44), (0.18, 1), (-0.18, 1)])


def _flower(pen: Pen) -> None:
    for x, y in _ring_of_points(6, (0.64,)):
        pen.disc(x, y, 0.36)
    pen.disc(0, 0, 0.5)
    pen.disc(0, 0, 0.24, fill=0)


_DRAWN: Mapping[str, Callable[[Pen], None]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "heart": _heart,
    "diamond": _diamond,
    "cross": _cross,
    "ring": _ring,
    "moon": _moon,
    "house": _house,
    "tree": _tree,
    "flower": _flower,
}
SHAPES = tuple(_DRAWN)


def draw_mask(shape: str, x: float, y: float, radius: float, size: int = SIZE) -> Floats:
    """How much of each pixel the shape covers: [size, size] of 0 to 1. Positions and radius are in pixels."""
    pen = Pen(size, x, y, radius)
    _DRAWN[shape](pen)
    fine = np.asarray(pen.image, dtype=np.float32) / 255
    return np.asarray(fine.reshape(size, _FINE, size, _FINE).mean(axis=(1, 3)), dtype=np.float32)
