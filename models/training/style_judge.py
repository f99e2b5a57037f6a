"""The style judge: which of the ten styles a picture is in, or none, read from its pixels alone.

Thirteen measures, each of something that one style or a few do and the others do not:

    lines    how a pixel on the grid's lines differs from those beside it       mosaic, blueprint
    tiles    how neighbouring squares of the grid differ                        mosaic, chalk
    dust     how neighbouring pixels differ everywhere                          chalk
    squares  share of all steps between neighbours that lie on a grid of 4      pixel
    cloud    how the ground changes along the border                            watercolour, chalk
    fall     how much lighter the ground is at the bottom than at the top       gradient
    dark     how dark the ground is                                             neon
    soft     pixels a little off the ground, to those far off it                neon, watercolour
    edge     how the shape's rim differs from its inside                        outline, neon, blueprint
    paleness how far the rim is from black or white                             outline
    beyond   how far the rim is from every mixture of ground and inside         outline, neon, blueprint
    shadow   how the shape's lower right rim differs from its upper left one    poster, pixel
    stripes  waves along one diagonal more than along the other                 stripes

The style is the likeliest by a linear rule (multinomial logistic regression) on the measures' signed square roots. Its
numbers stand in style_judge.json; `style_fit` computes them from drawn pictures of training scenes and painted plain ones.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from models.training.shapes import SIZE, Floats
from models.training.styles import CELL, STYLES
from models.training.world import Scene, colour_of, draw_scene_mask

BASE = "base"
NAMES = (BASE, *STYLES)
RULE = Path(__file__).with_name("style_judge.json")
MEASURES = (
    "lines",
    "tiles",
    "dust",
    "squares",
    "cloud",
    "fall",
    "dark",
    "soft",
    "edge",
    "paleness",
    "beyond",
    "shadow",
    "stripes",
)
_STRIP = 2  # pixels at the border that no shape reaches
_SQUARE = 4  # pixels of a square of the style "pixel"


def _length(vectors: NDArray[np.floating[Any]]) -> Floats:
    return np.asarray(np.sqrt(np.square(vectors).sum(axis=-1)), dtype=np.float32)


def grown(mask: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    """The mask and all that is within `reach` pixels of it."""
    image = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.MaxFilter(2 * reach + 1))
    return np.asarray(image) > 0


def _mean(picture: Floats, where: NDArray[np.bool_], otherwise: Floats) -> Floats:
    return np.asarray(picture[where].mean(axis=0)) if where.sum() >= 8 else otherwise


def paint_in(style: str, mask: Floats, scene: Scene, generator: np.random.Generator) -> Floats:
    """A mask in a scene's colour on its ground, in a style or plain: [SIZE, SIZE, 3] of 0 to 1."""
    colour, ground = colour_of(scene.colour), colour_of(scene.ground)
    if style == BASE:
        return mask[..., None] * colour + (1 - mask[..., None]) * ground
    return STYLES[style](mask, colour, ground, generator)


def draw_in(style: str, scene: Scene, random: Random, generator: np.random.Generator) -> Floats:
    """A scene in a style or plain, moved and grown a little."""
    return paint_in(style, draw_scene_mask(scene, random), scene, generator)


@dataclass(frozen=True, slots=True)
class Rule:
    """Scores of the styles: (signed roots of the measures - centre) / spread, times weights, and a constant each."""

    centre: Floats  # [measures]
    spread: Floats  # [measures]
    weights: Floats  # [measures + 1, styles]; the last row is the constants

    def scores(self, measured: Floats) -> Floats:
        """[n, styles] of [n, measures]; the highest is the likeliest."""
        signed = np.sign(measured) * np.sqrt(np.abs(measured))
        return np.asarray((signed - self.centre) / self.spread @ self.weights[:-1] + self.weights[-1])


@cache
def rule() -> Rule:
    """The committed rule."""
    kept = json.loads(RULE.read_text(encoding="ascii"))
    return Rule(*(np.array(kept[name], np.float32) for name in ("centre", "spread", "weights")))


def name_style(picture: Floats) -> str:
    """The style of [SIZE, SIZE, 3] of 0 to 1: one of NAMES."""
    return NAMES[int(rule().scores(measures(picture)[None])[0].argmax())]


def told_from_plain(picture: Floats) -> dict[str, bool]:
    """For each style, whether a picture, [SIZE, SIZE, 3] of 0 to 1, is likelier in it than plain."""
    scores = rule().scores(measures(picture)[None])[0]
    return {style: bool(scores[NAMES.index(style)] > scores[NAMES.index(BASE)]) for style in STYLES}


def measures(picture: Floats) -> Floats:
    """[len(MEASURES)] of a picture, [SIZE, SIZE, 3] of 0 to 1."""
    sides = sides_of(picture)
    found = _of_lines(picture) | _of_ground(picture, sides) | _of_shape(picture, sides)
    return np.array([found[name] for name in MEASURES], dtype=np.float32)


def sides_of(picture: Floats) -> Floats:
    """The ground of each row, [SIZE, 3]: its left or its right end, whichever is less likely to be covered."""
    ends = np.stack([picture[:, :_STRIP].mean(axis=1), picture[:, -_STRIP:].mean(axis=1)])
    off = _length(ends - np.median(ends, axis=(0, 1)))
    return np.asarray(np.where((off[0] <= off[1])[:, None], ends[0], ends[1]))


def _of_lines(picture: Floats) -> dict[str, float]:
    """How a pixel differs from those two to its sides, by its place in the grid; and where neighbours differ."""
    by_phase = np.zeros(CELL)
    on_grid = everywhere = 1e-6
    for turned in (picture, picture.transpose(1, 0, 2)):
        apart = _length(turned[:, 2:-2] - (turned[:, :-4] + turned[:, 4:]) / 2)
        columns = np.arange(2, SIZE - 2) % CELL
        by_phase += [np.median(apart[:, columns == phase]) / 2 for phase in range(CELL)]
        steps = np.square(turned[:, 1:] - turned[:, :-1]).sum(axis=(0, 2))
        on_grid += steps[_SQUARE - 1 :: _SQUARE].sum()
        everywhere += steps.sum()
    between = float(np.median(by_phase[3:6]))
    cells = picture.reshape(SIZE // CELL, CELL, SIZE // CELL, CELL, 3)[:, 2:-1, :, 2:-1].mean(axis=(1, 3))
    tiles = [np.median(_length(np.diff(cells, axis=axis))) for axis in (0, 1)]
    return {
        "lines": float(by_phase[0]) - between,
        "tiles": float(min(tiles)),
        "dust": between,
        "squares": float(on_grid / everywhere),
    }


def _smooth(strip: Floats) -> Floats:
    """[SIZE, 3] as means of eight."""
    return np.asarray(strip.reshape(SIZE // 8, 8, 3).mean(axis=1))


def _of_ground(picture: Floats, sides: Floats) -> dict[str, float]:
    left, right = _smooth(picture[:, :_STRIP].mean(axis=1)), _smooth(picture[:, -_STRIP:].mean(axis=1))
    top, bottom = _smooth(picture[:_STRIP].mean(axis=0)), _smooth(picture[-_STRIP:].mean(axis=0))
    uneven = [
        _length((left - right) / 2).mean(),
        _length(top - top.mean(0)).mean(),
        _length(bottom - bottom.mean(0)).mean(),
    ]
    high, low = sides[: SIZE // 4].mean(), sides[-SIZE // 4 :].mean()
    return {
        "cloud": float(np.median(uneven)),
        "fall": float(np.log((low + 0.05) / (high + 0.05))),
        "dark": float(1 - np.median(sides, axis=0).max()),
    }


def _beyond(colour: Floats, one: Floats, other: Floats) -> float:
    """How far a colour is from the nearest mixture of two others."""
    between = other - one
    share = np.clip((colour - one) @ between / max(float(between @ between), 1e-6), 0, 1)
    return float(_length(colour - one - share * between))


def _of_shape(picture: Floats, sides: Floats) -> dict[str, float]:
    apart = _length(picture - sides[:, None])
    far = max(float(np.quantile(apart, 0.995)), 0.1)
    there = apart > 0.1
    soft = float(((apart > 0.1 * far) & (apart < 0.5 * far)).sum() / max((apart >= 0.5 * far).sum(), 1))
    outside = ~there
    whole = _mean(picture, there, picture.mean(axis=(0, 1)))
    near = _mean(picture, there & grown(outside, 3) & ~grown(outside, 1), whole)
    deep = _mean(picture, there & ~grown(outside, 6), _mean(picture, there & ~grown(outside, 3), whole))
    shifted = {k: np.roll(there, (k, k), axis=(0, 1)) for k in (-4, 4)}
    inside = there & ~grown(outside, 1)
    corner, opposite = _mean(picture, inside & ~shifted[-4], whole), _mean(picture, inside & ~shifted[4], whole)
    rows, columns = np.nonzero(inside)
    inner = picture[inside] - whole
    waves = []
    for sign in (1, -1):
        turn = np.exp(2j * np.pi * (rows + sign * columns) / CELL)
        waves.append(float(np.abs((inner * turn[:, None]).sum(axis=0)).sum() / max(len(rows), 60)))
    return {
        "soft": float(np.log1p(soft)),
        "edge": float(_length(near - deep)),
        "paleness": float(min(_length(near - 0.05), _length(near - 0.97))),
        "beyond": _beyond(near, np.median(sides, axis=0), deep),
        "shadow": float(_length(corner - opposite)),
        "stripes": waves[0] - waves[1],
    }
