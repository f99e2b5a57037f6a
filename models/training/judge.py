"""The pixel checker: what a picture shows, read from its pixels alone.

The ground is the median colour of the border. Every pixel gets a place on the line from the ground to the colour that
differs most from it; that soft mask is measured (size, place), cropped and laid over twelve drawn templates (shape).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.training.shapes import SHAPES, SIZE, Floats, draw_mask
from models.training.world import PALETTE, PLACES, RADII, SIZES, Scene

_BORDER = 2  # pixels; a shape keeps about twice that from the edge
_TEMPLATE = 48
_COVERED = 0.5  # share of a mask pixel from which it counts
_OFF_CENTRE = 9.0  # pixels: half of what the biggest shape is moved by towards a side, rounded up
_LIMITS = [(a * b) ** 0.5 for a, b in zip(list(RADII.values())[:-1], list(RADII.values())[1:], strict=True)]


def nearest_colour(rgb: Floats) -> str:
    """The palette's colour nearest to red, green, blue of 0 to 1."""
    return min(PALETTE, key=lambda name: float(np.square(np.asarray(PALETTE[name]) / 255 - rgb).sum()))


def read_scene(picture: Floats) -> Scene:
    """What [SIZE, SIZE, 3] of 0 to 1 shows, or what comes nearest to it."""
    ground = _ground(picture)
    apart = np.sqrt(np.square(picture - ground).sum(axis=2))
    far = float(np.quantile(apart, 0.995))
    colour = np.median(picture[apart >= 0.7 * far], axis=0).astype(np.float32)
    mask = _soft_mask(picture, ground, colour)
    box = _box(mask)
    return Scene(nearest_colour(colour), nearest_colour(ground), _nearest_shape(mask, box), _size(box), _place(box))


def _ground(picture: Floats) -> Floats:
    b = _BORDER
    sides = (picture[:b], picture[-b:], picture[:, :b], picture[:, -b:])
    return np.asarray(np.median(np.concatenate([side.reshape(-1, 3) for side in sides]), axis=0), dtype=np.float32)


def _soft_mask(picture: Floats, ground: Floats, colour: Floats) -> Floats:
    line = colour - ground
    return np.clip((picture - ground) @ line / max(float(line @ line), 1e-4), 0, 1).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    right: float
    bottom: float

    @property
    def side(self) -> float:
        return max(self.right - self.left, self.bottom - self.top)


def _box(mask: Floats) -> _Box:
    """The rows and columns with at least two covered pixels: a lone speck does not stretch it."""
    covered = mask > _COVERED
    rows, columns = np.nonzero(covered.sum(axis=1) >= 2)[0], np.nonzero(covered.sum(axis=0) >= 2)[0]
    if not len(rows) or not len(columns):
        return _Box(0, 0, SIZE, SIZE)
    return _Box(float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1))


def _size(box: _Box) -> str:
    return SIZES[sum(int(box.side / 2 > limit) for limit in _LIMITS)]


def _place(box: _Box) -> str:
    x, y = (box.left + box.right - SIZE) / 2, (box.top + box.bottom - SIZE) / 2
    if max(abs(x), abs(y)) < _OFF_CENTRE:
        return PLACES[0]
    if abs(x) > abs(y):
        return "left" if x < 0 else "right"
    return "top" if y < 0 else "bottom"


def _crop(mask: Floats, box: _Box) -> Floats:
    """The box's middle square, scaled to the templates' size."""
    x, y, half = (box.left + box.right) / 2, (box.top + box.bottom) / 2, box.side / 2
    image = Image.fromarray(mask)
    corners = (x - half, y - half, x + half, y + half)
    cut = image.transform((_TEMPLATE,) * 2, Image.Transform.EXTENT, corners, Image.Resampling.BILINEAR)
    return np.asarray(cut, dtype=np.float32)


@cache
def _templates() -> dict[str, Floats]:
    drawn = {shape: draw_mask(shape, SIZE / 2, SIZE / 2, RADII["big"]) for shape in SHAPES}
    return {shape: _crop(mask, _box(mask)) for shape, mask in drawn.items()}


def _nearest_shape(mask: Floats, box: _Box) -> str:
    cut = _crop(mask, box)

    def overlap(template: Floats) -> float:
        return float(np.minimum(cut, template).sum() / max(float(np.maximum(cut, template).sum()), 1e-6))

    return max(SHAPES, key=lambda shape: overlap(_templates()[shape]))


def to_floats(picture: Image.Image) -> Floats:
    """A Pillow picture as the judge reads it."""
    return np.asarray(np.asarray(picture.convert("RGB")) / 255, dtype=np.float32)


ASPECTS = tuple(field.name for field in fields(Scene))


def shares_right(truths: list[Scene], readings: list[Scene]) -> dict[str, float]:
    """For each aspect of a scene, the share of pictures in which it was read as told."""
    right: NDArray[np.bool_] = np.array(
        [[getattr(t, a) == getattr(r, a) for a in ASPECTS] for t, r in zip(truths, readings, strict=True)]
    )
    return dict(zip(ASPECTS, right.mean(axis=0).round(4).tolist(), strict=True))
