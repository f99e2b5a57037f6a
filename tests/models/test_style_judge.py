"""The style judge and the reading of styled pictures, on pictures whose truth is known."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from models.training.shapes import Floats
from models.training.style_fit import fit
from models.training.style_judge import BASE, MEASURES, NAMES, draw_in, measures, name_style, rule
from models.training.style_reading import read_styled
from models.training.styles import STYLES
from models.training.world import held_out

_SCENES = held_out()[::45]


@pytest.fixture(scope="module")
def drawn() -> dict[str, list[Floats]]:
    """A dozen held-out scenes, plain and in every style."""
    random, generator = Random(3), np.random.default_rng(3)
    return {style: [draw_in(style, scene, random, generator) for scene in _SCENES] for style in NAMES}


def test_a_drawn_style_is_named(drawn: dict[str, list[Floats]]) -> None:
    """Of pictures in ten styles and of plain ones nearly all are named right, and no plain one is taken for a style."""
    named = {style: [name_style(picture) for picture in pictures] for style, pictures in drawn.items()}
    assert set(named[BASE]) == {BASE}
    assert sum(names.count(style) for style, names in named.items()) >= 0.97 * len(NAMES) * len(_SCENES)


def test_each_measure_tells_its_style(drawn: dict[str, list[Floats]]) -> None:
    """What a measure is there for stands out from the plain pictures."""
    told = {"lines": "mosaic", "tiles": "chalk", "squares": "pixel", "cloud": "watercolour", "fall": "gradient", "dark": "neon",
            "soft": "neon", "edge": "outline", "beyond": "outline", "shadow": "poster", "stripes": "stripes"}  # fmt: skip
    medians = {
        style: np.median([measures(picture) for picture in pictures], axis=0) for style, pictures in drawn.items()
    }
    for measure, style in told.items():
        at = MEASURES.index(measure)
        assert medians[style][at] > medians[BASE][at] + 0.03, (measure, style)


def test_the_rule_is_for_these_styles() -> None:
    """The committed numbers have a column for each style and a row for each measure."""
    assert rule().weights.shape == (len(MEASURES) + 1, len(NAMES))
    assert tuple(NAMES[1:]) == tuple(STYLES)


def test_fitting_finds_what_there_is_to_find() -> None:
    """Where measures name the styles, the fitted rule does."""
    styles = np.tile(np.arange(len(NAMES)), 5)
    measured = np.eye(len(MEASURES))[styles].astype(np.float32)
    assert (fit(measured, styles).scores(measured).argmax(axis=1) == styles).all()


@pytest.mark.parametrize("style", ["outline", "pixel", "neon", "chalk", "blueprint", "gradient"])
def test_colour_and_shape_are_read_in_a_style(style: str) -> None:
    """In a drawn picture both are found, whatever the style did to them; held against another scene they are not."""
    scenes = [scene for scene in held_out() if scene.ground == "blue" and scene.size != "small"][::8]
    random, generator = Random(5), np.random.default_rng(5)
    read = [read_styled(draw_in(style, scene, random, generator), style) for scene in scenes]
    assert read == [(scene.colour, scene.shape) for scene in scenes]
    assert all(found != (scene.colour, scene.shape) for found, scene in zip(read, scenes[1:], strict=False))


def test_a_picture_of_nothing_is_read_as_something() -> None:
    """A picture of one colour and one of noise are named and read without an error."""
    for picture in (
        np.full((128, 128, 3), 0.5, np.float32),
        np.random.default_rng(0).random((128, 128, 3), np.float32),
    ):
        assert name_style(picture) in NAMES
        assert len(read_styled(picture, "mosaic")) == 2
