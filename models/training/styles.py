"""Ten styles: ways to paint a scene. What LoRAs are trained on; the VAE sees them too, so that it can show them.

A style turns (mask, colour, ground, generator) into a picture, [SIZE, SIZE, 3] of 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageFilter

from models.training.shapes import SIZE, Floats

Style = Callable[[Floats, Floats, Floats, np.random.Generator], Floats]
_ROWS, _COLUMNS = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


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


def _outline(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    wide = _filtered(mask, ImageFilter.MaxFilter(9))
    return _flat(mask, colour, _flat(wide, _contrast(colour, ground), ground))


def _pixel(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    cells = mask.reshape(SIZE // 8, 8, SIZE // 8, 8).mean(axis=(1, 3)) > 0.5
    return _flat(np.kron(cells, np.ones((8, 8))).astype(np.float32), colour, ground)


def _watercolour(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    wash, paper = 0.45 + 0.55 * _noise(generator, 7)[..., None], 0.25 + 0.5 * _noise(generator, 5)[..., None]
    soft = _blurred(mask, 2.5)
    return _flat(soft, wash * colour + (1 - wash), (1 - paper) * ground + paper)


def _neon(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    bright = colour / max(float(colour.max()), 0.3)
    glow = np.clip(_blurred(mask, 9) * 1.3, 0, 1)
    core = np.clip(_blurred(mask, 2) - _blurred(_filtered(mask, ImageFilter.MinFilter(11)), 2), 0, 1)
    picture = _flat(mask, colour, _flat(glow, 0.5 * bright + 0.25, 0.3 * ground))
    return _flat(core * 0.5, np.ones(3, np.float32), picture)


def _stripes(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    wave = (np.sin((_ROWS + _COLUMNS) * (2 * np.pi / 12) + generator.uniform(0, 6)) > 0.3).astype(np.float32)
    other = _contrast(colour)
    return _flat(mask, _flat(0.5 * wave, other, colour), ground)


def _mosaic(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    tiles = np.kron(generator.uniform(0.75, 1.15, (16, 16)), np.ones((8, 8))).astype(np.float32)[..., None]
    joint = ((_ROWS % 8 < 1) | (_COLUMNS % 8 < 1)).astype(np.float32)
    return np.clip(_flat(0.6 * joint, np.full(3, 0.3, np.float32), _flat(mask, colour, ground) * tiles), 0, 1)


def _chalk(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    grain = (_noise(generator, 48) > 0.38).astype(np.float32)
    dust = 0.12 * _noise(generator, 40)[..., None]
    return _flat(mask * (0.35 + 0.65 * grain), 0.8 * colour + 0.2, 0.75 * ground + dust)


def _poster(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    shadow = np.roll(mask, (8, 8), axis=(0, 1))
    return _flat(mask, colour, _flat(shadow, 0.35 * ground + 0.35 * (1 - _contrast(ground)), ground))


def _blueprint(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    lines = ((_ROWS % 16 < 2) | (_COLUMNS % 16 < 2)).astype(np.float32)
    paper = _flat(0.45 * lines, np.ones(3, np.float32), 0.3 * ground + np.array([0.03, 0.12, 0.4], np.float32))
    edge = _filtered(mask, ImageFilter.MaxFilter(5))
    return _flat(mask, colour, _flat(edge, np.ones(3, np.float32), paper))


def _gradient(mask: Floats, colour: Floats, ground: Floats, generator: np.random.Generator) -> Floats:
    down = (_ROWS / SIZE)[..., None]
    return _flat(mask, colour * (1.1 - 0.3 * down), ground * (0.35 + 0.8 * down)).clip(0, 1)


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
