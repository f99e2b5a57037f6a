"""Ten styles: ways to paint a scene. What LoRAs are trained on; the VAE sees them too, so that it can show them.

A style turns (mask, colour, ground, generator) into a picture, [SIZE, SIZE, 3] of 0 to 1. Each can be told from the
plain picture whatever the colours and the shape are: a black ground has a gradient too, a square's pixels are shaded.
What repeats does so every `CELL` pixels, a latent's width: then the UNet need not know where in the picture it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

from models.training.shapes import SIZE, Floats

Style = Callable[[Floats, Floats, Floats, np.random.Generator], Floats]
CELL = 8  # pixels
_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_WHITE = np.ones(3, np.float32)


def _flat(mask: Floats, colour: Floats, ground: Floats) -> Floats:
    return mask[..., None] * colour + (1 - mask[..., None]) * ground


def _filtered(mask: Floats, how: ImageFilter.Filter) -> Floats:
    image = Image.fromarray((mask * 255).astype(np.uint8)).filter(how)
    return np.asarray(np.asarray(image) / 255, dtype=np.float32)


def _blurred(mask: Floats, radius: float) -> Floats:
    return _filtered(mask, ImageFilter.GaussianBlur(radius))


def _noise(generator: np.random.Generator, cells: int) -> Floats:
    """Smooth noise of 0 to 1, `cells` bumps across."""
    coarse = Image.fromarray(generator.integers(0, 256, (cells, cells), dtype=np.uint8))
    return np.asarray(np.asarray(coarse.resize((SIZE, SIZE), Image.Resampling.BICUBIC)) / 255, dtype=np.float32)


def _contrast(*colours: Floats) -> Floats:
    """Black, or white where black would be lost beside the colours."""
    return np.full(3, 0.97 if min(float(colour @ _LUMA) for colour in colours) < 0.2 else 0.05, np.float32)


def _shifted(mask: Floats, pixels: int) -> Floats:
    """Moved to the right and down; what leaves the picture is gone."""
    return np.pad(mask, ((pixels, 0), (pixels, 0)))[:SIZE, :SIZE]


def _shaded(colour: Floats, darker: float) -> Floats:
    """A darker colour, or a lighter one of what is dark already."""
    return colour * darker if float(colour @ _LUMA) > 0.2 else colour + 0.4 * (1 - darker)


def _outline(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    wide = _filtered(mask, ImageFilter.MaxFilter(9))
    return _flat(mask, colour, _flat(wide, _contrast(colour, ground), ground))


def _pixel(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    """Squares of 4, lit from the upper left."""
    cells = mask.reshape(SIZE // 4, 4, SIZE // 4, 4).mean(axis=(1, 3)) > 0.5
    around = np.pad(cells, 1)
    lit = cells & ~(around[:-2, 1:-1] & around[1:-1, :-2])
    shaded = cells & ~(around[2:, 1:-1] & around[1:-1, 2:])
    inner = _flat(0.45 * lit.astype(np.float32), _WHITE, colour)
    picture = _flat(cells.astype(np.float32), _flat(shaded.astype(np.float32), _shaded(colour, 0.6), inner), ground)
    return picture.repeat(4, axis=0).repeat(4, axis=1)


def _watercolour(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    """Washes of uneven strength; the pigment gathers at the shape's edge."""
    wash, paper = 0.6 + 0.4 * _noise(generator, 7)[..., None], 0.15 + 0.5 * _noise(generator, 5)[..., None]
    soft = _blurred(mask, 1.5)
    edge = np.clip(4 * soft * (1 - soft), 0, 1)[..., None]
    return np.asarray(_flat(soft, wash * colour + (1 - wash), (1 - paper) * ground + paper) * (1 - 0.25 * edge))


def _neon(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    """A tube in the shape's own colour along its edge, a glow around it, darkness behind."""
    glow = 0.8 * np.clip(_blurred(mask, 8) * 1.2, 0, 1)
    tube = np.clip(3 * (_blurred(mask, 1.5) - _blurred(_filtered(mask, ImageFilter.MinFilter(7)), 1.5)), 0, 1) * mask
    return _flat(0.45 * tube, _WHITE, _flat(mask, colour, _flat(glow, 0.65 * colour + 0.08, 0.3 * ground)))


def _stripes(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    wave = ((_ROWS + _COLUMNS) % CELL < CELL // 2).astype(np.float32)
    return _flat(mask, _flat(0.55 * wave, _contrast(colour), colour), ground)


def _mosaic(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    """Tiles of uneven brightness, and joints."""
    tiles = generator.uniform(0.75, 1.1, (SIZE // CELL,) * 2).astype(np.float32).repeat(CELL, axis=0)
    bright = 0.08 + 0.92 * _flat(mask, colour, ground) * tiles.repeat(CELL, axis=1)[..., None]
    joint = ((_ROWS % CELL < 1) | (_COLUMNS % CELL < 1)).astype(np.float32)
    return np.clip(_flat(0.6 * joint, np.full(3, 0.3, np.float32), bright), 0, 1)


def _chalk(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    """Pale and grainy, with a firm edge, on a dusty board."""
    grain = np.clip(2.5 * (_noise(generator, 26) - 0.3), 0, 1)
    edge = mask - _filtered(mask, ImageFilter.MinFilter(5))
    dust = 0.1 + 0.12 * _noise(generator, 20)[..., None]
    return _flat(np.maximum(mask * (0.45 + 0.55 * grain), edge), 0.8 * colour + 0.2, 0.6 * ground + dust)


def _poster(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    """A long shadow to the lower right."""
    shadow = np.max([_shifted(mask, pixels) for pixels in range(0, 25, 2)], axis=0)
    return _flat(mask, colour, _flat(shadow, _shaded(ground, 0.6), ground))


def _blueprint(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    """Squared paper, mostly blue; the shape in white ink, filled."""
    lines = ((_ROWS % CELL < 1) | (_COLUMNS % CELL < 1)).astype(np.float32)
    paper = _flat(0.4 * lines, _WHITE, 0.3 * ground + np.array([0.03, 0.12, 0.4], np.float32))
    return _flat(mask, colour, _flat(_filtered(mask, ImageFilter.MaxFilter(5)), _WHITE, paper))


def _gradient(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    """The ground grows lighter downward, the shape darker."""
    down = (_ROWS / (SIZE - 1))[..., None]
    lit = ground * (0.4 + 0.6 * down) + 0.4 * (1 - ground) * down
    return _flat(mask, colour * (1.15 - 0.4 * down), lit).clip(0, 1)


STYLES: Mapping[str, Style] = {
    "outline": _outline,
    "pixel": _pixel,
    "watercolour": _watercolour,
    "neon": _neon,
    "stripes": _stripes,
    "mosaic": _mosaic,
    "chalk": _chalk,
    "poster": _poster,
    "blueprint": _blueprint,
    "gradient": _gradient,
}
