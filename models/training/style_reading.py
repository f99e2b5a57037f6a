"""Colour and shape of a picture in a known style, read from its pixels alone.

What a style makes of a colour and of a ground is learned from its own drawings: some pixels of the shape and some of
what is around it, for every pair of colour and ground. The colour is the one whose pixels explain the picture best;
the shape's mask is where the shape's pixels explain it better than the others; the shape is the drawn mask that covers
that one best, wherever it is moved.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random

import numpy as np
from numpy.typing import NDArray

from models.training.shapes import SHAPES, SIZE, Floats, draw_mask
from models.training.style_judge import grown, paint_in, sides_of
from models.training.world import COLOURS, RADII, Scene

_DRAWINGS = 4  # of each pair of colour and ground: no two washes are alike
_INSIDE, _NEAR, _ANYWHERE = 10, 14, 6  # pixels of the shape, close to it and anywhere else, from each drawing
_AROUND = 3  # of half the resolution: outlines lie within, and the strongest of shadows and glows
_FAR = 0.03  # squared distance from which one unexplained pixel is as bad as another
_EITHER = 1e-4  # difference of squared distances that says nothing
_SMALLEST = 0.015  # share of the picture; the smallest shape covers twice as much
_HALF = SIZE // 2
_GROUNDS = 3
_GROWTHS = (0.95, 1.0, 1.05)


@dataclass(frozen=True, slots=True)
class _Look:
    """What a style makes of a colour on a ground: pixels of the shape and pixels around it, [n, channels] each."""

    colour: str
    shape: Floats
    around: Floats


def read_styled(picture: Floats, style: str) -> tuple[str, str]:
    """Colour and shape that [SIZE, SIZE, 3] of 0 to 1 shows in a style, or what comes nearest to it."""
    levelled = _levelled(picture, style)
    halved = _halved(levelled)
    sampled = halved[::2, ::2].reshape(-1, halved.shape[-1])
    grounds = _nearest_grounds(levelled, style)
    looks = [_look(style, colour, ground) for ground in grounds for colour in COLOURS if colour != ground]
    border = np.concatenate([halved[0], halved[-1], halved[:, 0], halved[:, -1]])[::2]
    best = min(looks, key=lambda look: _misfit(sampled, border, look))
    covered = _covered(halved.reshape(-1, halved.shape[-1]), best)
    return best.colour, _nearest_shape(covered.reshape(_HALF, _HALF).astype(np.float32))


def _levelled(picture: Floats, style: str) -> Floats:
    """The picture itself; in the style "gradient" also, as three more numbers, how it differs from its row's ground."""
    if style != "gradient":
        return picture
    return np.concatenate([picture, picture - sides_of(picture)[:, None]], axis=2)


def _halved(picture: Floats) -> Floats:
    """[SIZE, SIZE, n] at half the resolution."""
    return np.asarray(picture.reshape(_HALF, 2, _HALF, 2, -1).mean(axis=(1, 3)))


def _border(picture: Floats) -> Floats:
    edges = (picture[:2], picture[-2:], sides_of(picture))
    return np.asarray(np.concatenate([edge.reshape(-1, picture.shape[-1]) for edge in edges]).mean(axis=0))


def _nearest(pixels: Floats, samples: Floats) -> Floats:
    """The squared distance of each pixel [n, channels] from the nearest of the samples."""
    squares = np.square(pixels).sum(axis=1)[:, None] + np.square(samples).sum(axis=1) - 2 * pixels @ samples.T
    return np.asarray(squares.min(axis=1), dtype=np.float32)


def _covered(pixels: Floats, look: _Look) -> NDArray[np.bool_]:
    """Which pixels are the shape's rather than what is around it. What may be either (white in white ink) is the shape's."""
    return np.asarray(_nearest(pixels, look.shape) <= _nearest(pixels, look.around) + _EITHER)


def _misfit(pixels: Floats, border: Floats, look: _Look) -> float:
    """How badly a look explains pixels of a picture, and its border as being no shape; too small a shape is none."""
    inner, outer = _nearest(pixels, look.shape), _nearest(pixels, look.around)
    too_small = np.mean(inner <= outer + _EITHER) < _SMALLEST
    whole = np.minimum(np.minimum(inner, outer), _FAR).mean()
    return float(whole + np.minimum(_nearest(border, look.around), _FAR).mean() + _FAR * too_small)


@cache
def _look(style: str, colour: str, ground: str) -> _Look:
    random, generator = Random(f"{style} {colour} {ground}"), np.random.default_rng(5)
    scene = Scene(colour, ground, "star", "medium", "middle")
    mask = _halved(_stars())[..., 0]
    gap = 2 if style == "pixel" else 0  # its squares reach beyond the shape, or fall short of it
    inside, outside = ~grown(mask < 0.98, gap), ~grown(mask > 0.02, gap)
    near = grown(mask > 0, _AROUND) & outside
    shape, around = [], []
    for _ in range(_DRAWINGS):
        picture = _halved(_levelled(paint_in(style, _stars(), scene, generator), style))
        shape.append(_some(picture[inside], _INSIDE, random))
        around += [_some(picture[near], _NEAR, random), _some(picture[outside], _ANYWHERE, random)]
    return _Look(colour, np.concatenate(shape), np.concatenate(around))


@cache
def _stars() -> Floats:
    """Three in a column: what a style does may depend on the height."""
    masks = [draw_mask("star", SIZE / 2, y, RADII["small"]) for y in (22, 64, 106)]
    return np.asarray(np.max(masks, axis=0), dtype=np.float32)


def _some(pixels: Floats, count: int, random: Random) -> Floats:
    return pixels[[random.randrange(len(pixels)) for _ in range(count)]]


@cache
def _grounds(style: str) -> dict[str, Floats]:
    """The border's colour in a style, by the ground's name."""
    generator, nothing = np.random.default_rng(6), np.zeros((SIZE, SIZE), np.float32)
    found = {}
    for ground in COLOURS:
        scene = Scene("red", ground, "star", "medium", "middle")
        drawn = [_levelled(paint_in(style, nothing, scene, generator), style) for _ in range(3)]
        found[ground] = np.mean([_border(picture) for picture in drawn], axis=0)
    return found


def _nearest_grounds(picture: Floats, style: str) -> list[str]:
    """The grounds that the border may be, the likeliest first: in some styles they are much alike."""
    seen = _border(picture)
    return sorted(_grounds(style), key=lambda name: float(np.square(_grounds(style)[name] - seen).sum()))[:_GROUNDS]


@cache
def _templates() -> tuple[list[str], NDArray[np.complexfloating], Floats]:
    """Of every shape in some sizes: its name, its mask's spectrum and its area, at half the resolution."""
    names, spectra, areas = [], [], []
    for shape in SHAPES:
        for radius in RADII.values():
            for growth in _GROWTHS:
                mask = draw_mask(shape, _HALF / 2, _HALF / 2, radius * growth / 2, _HALF)
                names.append(shape)
                spectra.append(np.conj(np.fft.rfft2(mask)))
                areas.append(mask.sum())
    return names, np.stack(spectra), np.array(areas, np.float32)


def _nearest_shape(mask: Floats) -> str:
    """Of all drawn shapes, moved anywhere, the one with the greatest overlap: intersection over union."""
    names, spectra, areas = _templates()
    shared = np.fft.irfft2(np.fft.rfft2(mask) * spectra, s=mask.shape).max(axis=(1, 2))
    return names[int((shared / (areas + mask.sum() - shared)).argmax())]
