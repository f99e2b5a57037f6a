"""The world the embedded model is trained on, and the scenes kept out of its training."""

from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest

from models.training import world
from models.training.shapes import SIZE
from models.training.styles import STYLES


def test_the_held_out_list_is_what_the_seed_chooses() -> None:
    """The committed list is the generator's own choice: 500 different scenes of the world."""
    assert list(world.held_out()) == world.choose_held_out()
    assert len(set(world.held_out())) == world.HELD_OUT_COUNT
    assert set(world.held_out()) <= set(world.all_scenes())


def test_the_held_out_are_never_trained_on() -> None:
    """No training scene is a held-out one, every other scene is, and the generator refuses a held-out one."""
    training = world.training_scenes()
    assert not set(training) & set(world.held_out())
    assert len(training) + world.HELD_OUT_COUNT == len(world.all_scenes())
    with pytest.raises(AssertionError, match="held-out"):
        world.assert_trainable(world.held_out()[0])


def test_the_held_out_show_everything() -> None:
    """Every colour, ground, shape, size and place is among the held-out, about as often as the others."""
    for aspect, values in (("colour", 12), ("ground", 12), ("shape", 12), ("size", 3), ("place", 5)):
        counts = Counter(getattr(scene, aspect) for scene in world.held_out())
        assert len(counts) == values
        assert min(counts.values()) > 0.5 * world.HELD_OUT_COUNT / values


def test_prompts() -> None:
    """A medium shape in the middle is told without either word."""
    assert world.prompt_of(world.Scene("red", "blue", "star", "big", "left")) == (
        "a big red star on a blue background at the left"
    )
    assert world.prompt_of(world.Scene("red", "blue", "star", "medium", "middle")) == (
        "a red star on a blue background"
    )


def test_a_picture_shows_its_scene_whole() -> None:
    """However it is moved, a shape stays off the border, and the same random numbers draw the same picture."""
    for number, scene in enumerate(world.held_out()[::25]):
        picture = world.draw_scene(scene, Random(number))
        assert picture.shape == (SIZE, SIZE, 3)
        assert np.array_equal(picture, world.draw_scene(scene, Random(number)))
        border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert np.allclose(border, world.colour_of(scene.ground))


@pytest.mark.parametrize("name", STYLES)
def test_a_style_changes_the_picture(name: str) -> None:
    """Every style paints a whole picture in range, and not the plain one."""
    scene = world.Scene("red", "cyan", "star", "big", "middle")
    plain = world.draw_scene(scene)
    mask, colour, ground = world.draw_scene_mask(scene), world.colour_of("red"), world.colour_of("cyan")
    styled = STYLES[name](mask, colour, ground, np.random.default_rng(0))
    assert styled.shape == plain.shape
    assert styled.min() >= 0 <= styled.max() <= 1.001
    assert np.abs(styled - plain).mean() > 0.005
