"""The world the embedded model knows: one coloured shape on a coloured ground, of a size and at a place.

A scene is told as

    a [small|big] COLOUR SHAPE on a GROUND background [at the left|right|top|bottom]

where an unsaid size is medium and an unsaid place the middle. `held_out()` lists 500 scenes that no training picture
may show; `sample_scene` keeps out of them, and `assert_trainable` makes sure.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from functools import cache
from pathlib import Path
from random import Random

import numpy as np

from models.training.shapes import SHAPES, SIZE, Floats, draw_mask

PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (222, 36, 36),
    "green": (34, 160, 68),
    "blue": (36, 84, 222),
    "yellow": (245, 218, 45),
    "orange": (250, 145, 35),
    "purple": (135, 55, 185),
    "pink": (250, 150, 190),
    "white": (246, 246, 246),
    "black": (20, 18, 20),
    "gray": (135, 135, 140),
    "brown": (122, 78, 40),
    "cyan": (70, 205, 225),
}
COLOURS = tuple(PALETTE)
RADII = {"small": 19.0, "medium": 28.0, "big": 40.0}  # pixels: half of the longer side
SIZES = tuple(RADII)
PLACES = ("middle", "left", "right", "top", "bottom")
_TOWARDS = {"middle": (0, 0), "left": (-1, 0), "right": (1, 0), "top": (0, -1), "bottom": (0, 1)}
_EDGE = 5.0  # pixels between a shape that stands at a side and that side
_SHIFT, _GROWTH = 3.0, 0.06  # how far place (pixels) and size (share) differ from picture to picture

HELD_OUT = Path(__file__).with_name("held_out.txt")
HELD_OUT_COUNT = 500


@dataclass(frozen=True, slots=True, order=True)
class Scene:
    """What one picture shows. Colour and ground differ."""

    colour: str
    ground: str
    shape: str
    size: str
    place: str


def all_scenes() -> list[Scene]:
    """Every scene of the world, in a fixed order: 12 x 11 x 12 x 3 x 5."""
    return [
        Scene(colour, ground, shape, size, place)
        for colour in COLOURS
        for ground in COLOURS
        if colour != ground
        for shape in SHAPES
        for size in SIZES
        for place in PLACES
    ]


def choose_held_out(seed: int = 3) -> list[Scene]:
    """The scenes of `held_out.txt`, chosen anew: what the committed list was made by."""
    return sorted(Random(seed).sample(all_scenes(), HELD_OUT_COUNT))


@cache
def held_out() -> tuple[Scene, ...]:
    """The committed list."""
    return tuple(Scene(*line.split()) for line in HELD_OUT.read_text(encoding="ascii").splitlines())


@cache
def _held_out_set() -> frozenset[Scene]:
    return frozenset(held_out())


def assert_trainable(scene: Scene) -> Scene:
    """The scene itself; AssertionError for one of the held out."""
    if scene in _held_out_set():
        raise AssertionError(f"a held-out scene was about to be trained on: {scene}")
    return scene


def training_scenes() -> list[Scene]:
    """Every scene but the held out."""
    return [assert_trainable(scene) for scene in all_scenes() if scene not in _held_out_set()]


def prompt_of(scene: Scene) -> str:
    """The full prompt of a scene."""
    size = "" if scene.size == "medium" else f"{scene.size} "
    place = "" if scene.place == "middle" else f" at the {scene.place}"
    return f"a {size}{scene.colour} {scene.shape} on a {scene.ground} background{place}"


def draw_scene_mask(scene: Scene, random: Random | None = None) -> Floats:
    """The scene's shape as a mask, moved and grown a little at random if `random` is given."""
    radius, shift_x, shift_y = RADII[scene.size], 0.0, 0.0
    if random is not None:
        radius *= random.uniform(1 - _GROWTH, 1 + _GROWTH)
        shift_x, shift_y = random.uniform(-_SHIFT, _SHIFT), random.uniform(-_SHIFT, _SHIFT)
    reach = SIZE / 2 - radius - _EDGE
    x, y = _TOWARDS[scene.place]
    return draw_mask(scene.shape, SIZE / 2 + x * reach + shift_x, SIZE / 2 + y * reach + shift_y, radius)


def colour_of(name: str) -> Floats:
    """A colour's red, green and blue, 0 to 1."""
    return np.asarray(np.asarray(PALETTE[name]) / 255, dtype=np.float32)


def draw_scene(scene: Scene, random: Random | None = None) -> Floats:
    """The picture: [SIZE, SIZE, 3] of 0 to 1."""
    mask = draw_scene_mask(scene, random)[..., None]
    return mask * colour_of(scene.colour) + (1 - mask) * colour_of(scene.ground)


def write_held_out() -> None:
    """Write the list. Done once; whoever does it again has to train again."""
    HELD_OUT.write_text("".join(" ".join(astuple(scene)) + "\n" for scene in choose_held_out()), encoding="ascii")
