"""The pixel checker, on pictures whose truth is known."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest

from models.training.judge import read_scene, shares_right
from models.training.shapes import Floats
from models.training.world import Scene, draw_scene, held_out


@pytest.fixture(scope="module")
def drawn() -> list[Floats]:
    """Every held-out scene, drawn as training pictures are: moved and grown a little."""
    random = Random(7)
    return [draw_scene(scene, random) for scene in held_out()]


def test_drawn_truth_is_read_without_a_mistake(drawn: list[Floats]) -> None:
    """On pictures that show what they should, the checker says so every time."""
    assert set(shares_right(list(held_out()), [read_scene(picture) for picture in drawn]).values()) == {1.0}


def test_shuffled_prompts_are_chance(drawn: list[Floats]) -> None:
    """Held against other pictures' prompts, no aspect is right more often than by chance (and some noise)."""
    shuffled = list(held_out())
    Random(8).shuffle(shuffled)
    shares = shares_right(shuffled, [read_scene(picture) for picture in drawn])
    chance = {"colour": 1 / 12, "ground": 1 / 12, "shape": 1 / 12, "size": 1 / 3, "place": 1 / 5}
    assert {aspect: share < chance[aspect] + 0.07 for aspect, share in shares.items()} == dict.fromkeys(chance, True)


def test_each_aspect_is_told_apart() -> None:
    """A picture that is wrong in one aspect is found wrong in that aspect and right in the others."""
    asked = Scene("red", "blue", "star", "big", "left")
    for change in (
        Scene("pink", "blue", "star", "big", "left"),
        Scene("red", "cyan", "star", "big", "left"),
        Scene("red", "blue", "flower", "big", "left"),
        Scene("red", "blue", "star", "small", "left"),
        Scene("red", "blue", "star", "big", "top"),
    ):
        assert read_scene(draw_scene(change)) == change != asked


def test_a_picture_of_nothing_is_read_as_something() -> None:
    """A picture of one colour and one of noise are read without an error; they are merely wrong."""
    read_scene(np.full((128, 128, 3), 0.5, np.float32))
    read_scene(np.random.default_rng(0).random((128, 128, 3), dtype=np.float32))
