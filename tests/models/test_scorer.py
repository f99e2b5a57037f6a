"""The scorer: how it is trained, and that the committed one tells right prompts from wrong ones."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor

from models.check import DEMO, wrong_scenes
from models.training.judge import ASPECTS
from models.training.scorer import Scorer, changed, compose, draw_alike, draw_bank, parse, told_whole, train
from models.training.world import Scene, colour_of, draw_scene, held_out, prompt_of, training_scenes

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torchvision.*"),
]

FOLDER = DEMO / "scorer"


def picture_of(scene: Scene, seed: int) -> Image.Image:
    """A drawing of a scene, moved and grown a little."""
    return Image.fromarray((draw_scene(scene, Random(seed)) * 255).round().astype(np.uint8))


def test_right_prompts_beat_wrong_ones() -> None:
    """On drawings of held-out scenes, against prompts of other scenes and against those that are wrong in one aspect alone."""
    scenes = held_out()[::20]
    random = Random(2)
    prompts = [[prompt_of(scene), *map(prompt_of, wrong_scenes(scene, held_out(), random))] for scene in scenes]
    scores = Scorer(FOLDER).scores([picture_of(scene, i) for i, scene in enumerate(scenes)], prompts)
    assert (scores[:, :1] > scores[:, 1:]).float().mean() >= 0.97


def test_it_is_a_clip_model_to_transformers() -> None:
    """Loaded as any CLIP is, with its own processor, it finds each picture's prompt, and gives the same cosines."""
    scenes = held_out()[5::100]
    pictures, prompts = [picture_of(scene, 1) for scene in scenes], [prompt_of(scene) for scene in scenes]
    model = CLIPModel.from_pretrained(str(FOLDER), dtype=torch.float32)
    processor = CLIPProcessor.from_pretrained(str(FOLDER))
    with torch.no_grad():
        found = model(**processor(text=prompts, images=pictures, padding="max_length", return_tensors="pt"))
    assert found.logits_per_image.argmax(dim=1).tolist() == list(range(len(scenes)))
    ours = Scorer(FOLDER).scores(pictures, [[prompt] for prompt in prompts])[:, 0]
    assert torch.allclose((found.image_embeds * found.text_embeds).sum(dim=1), ours, atol=1e-4)


def test_it_is_small() -> None:
    """A few megabytes."""
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) < 4_000_000


def test_alike_scenes_differ_in_one_aspect_and_are_for_training() -> None:
    """Rows of four, whose first differs from each other one in one aspect; none of them is held out."""
    scenes = training_scenes()
    drawn = draw_alike(400, scenes, frozenset(scenes), Random(0))
    assert not set(drawn) & set(held_out())
    for start in range(0, 400, 4):
        first, *others = drawn[start : start + 4]
        assert len({first, *others}) == 4
        for other in others:
            assert sum(a != b for a, b in zip(astuple(first), astuple(other), strict=True)) == 1


def test_a_changed_scene_is_one_of_the_world() -> None:
    """Colour and ground still differ."""
    scene = Scene("red", "blue", "star", "big", "left")
    for aspect in ASPECTS:
        for seed in range(30):
            other = changed(scene, aspect, Random(seed))
            assert getattr(other, aspect) != getattr(scene, aspect)
            assert other.colour != other.ground


def test_composed_pictures_show_their_scenes() -> None:
    """Ground at the corner, and as much of the colour as a shape covers."""
    bank = draw_bank(variants=1, styled=1, seed=0)
    scene = Scene("cyan", "brown", "square", "big", "middle")
    picture = compose(bank, [scene], Random(0))[0].permute(1, 2, 0).numpy() / 255
    assert np.allclose(picture[0, 0], colour_of("brown"), atol=0.01)
    assert np.allclose(picture[64, 64], colour_of("cyan"), atol=0.01)


def test_a_whole_prompt_leaves_nothing_out() -> None:
    """Whatever its wording, colour, ground and shape are in it."""
    random = Random(1)
    for scene in training_scenes()[::2000]:
        text = told_whole(scene, random)
        assert scene.shape in text
        assert {scene.colour, scene.ground} <= set(text.replace(",", " ").split())


def test_training_writes_a_scorer(tmp_path: Path) -> None:
    """Two steps, and the folder loads; done once, there is nothing left to do."""
    arguments = ["--model", str(DEMO), "--out", str(tmp_path / "out"), "--work", str(tmp_path / "run"), "--steps=2"]
    arguments += ["--batch=8", "--masks=1", "--styled=6"]
    for _ in range(2):
        train(parse(arguments))
    first = Scorer(tmp_path / "out").scores([picture_of(held_out()[0], 0)], [["a red star"]])
    assert torch.isfinite(first).all()
