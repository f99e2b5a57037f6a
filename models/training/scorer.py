"""Trains the scorer: `python -m models.training.scorer`, a small CLIP of the world.

A CLIPModel in transformers' layout that says how well a prompt tells what a picture shows. The text tower is the
embedded model's own text encoder, frozen: it knows the words. The image tower learns from drawn pictures of training
scenes, some of them in a style, blurred and made noisy, since painted ones are never quite exact. The loss is CLIP's
(Radford et al. 2021, arXiv:2103.00020), in batches where most pictures have neighbours that differ from them in one
aspect alone; beside it, for training only, linear answers name each aspect, which is quicker to learn from.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTextModel
from transformers import CLIPTokenizer as Tokenizer

from models.training.judge import ASPECTS
from models.training.muon import MuonAndAdamW
from models.training.runs import Average, Meter, Run, device_at_hand, half_precision
from models.training.shapes import SHAPES, SIZE
from models.training.styles import STYLES
from models.training.text import tokens_of, told
from models.training.tokenizer import LENGTH, build
from models.training.vae import to_signed, to_uint8
from models.training.world import (
    COLOURS,
    PALETTE,
    PLACES,
    SIZES,
    Scene,
    assert_trainable,
    colour_of,
    draw_scene_mask,
    training_scenes,
)

VALUES: dict[str, tuple[str, ...]] = dict(zip(ASPECTS, (COLOURS, COLOURS, SHAPES, SIZES, PLACES), strict=True))
VISION: dict[str, Any] = {
    "image_size": SIZE,
    "patch_size": 16,  # 64 patches: a small shape still covers several, and a step costs a quarter of patches of 8
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}
EMBEDDING = 128
_SHORT = 28  # tokens: enough for any prompt here; the tower, being causal, says the same with 77
_ALIKE = 4  # pictures in a row that differ from the first of them in one aspect
_FAINT = 0.01  # variance of a patch's component below which it is mostly noise
_OUTER = ("vision_model.embeddings", "visual_projection", "text_projection", "answers")


def new_scorer(text_encoder: Path) -> CLIPModel:
    """An untrained image tower beside the text encoder in a folder."""
    text = CLIPTextModel.from_pretrained(str(text_encoder), dtype=torch.float32)
    sizes = {"projection_dim": EMBEDDING}
    config = CLIPConfig(
        text_config=text.config.to_dict() | sizes, vision_config=VISION | sizes, projection_dim=EMBEDDING
    )
    scorer = CLIPModel(config)
    scorer.text_model.load_state_dict(text.state_dict())
    scorer.text_model.requires_grad_(False)
    return scorer


@torch.no_grad()
def open_eyes(scorer: CLIPModel, pictures: Tensor) -> None:
    """Start the image tower with patches as their principal components, and with places that neighbours share.

    From random weights a patch is little more than its mean colour at first: the shapes were told no better than by
    chance after 200 steps. `pictures` are uint8, some hundred of them.
    """
    eyes, side = scorer.vision_model.embeddings, VISION["patch_size"]
    patches = functional.unfold(to_signed(pictures), side, stride=side).transpose(1, 2).flatten(0, 1).double()
    mean = patches.mean(0)
    variances, directions = torch.linalg.eigh((patches - mean).T @ (patches - mean) / len(patches))
    variances, directions = variances.flip(0)[: VISION["hidden_size"]], directions.flip(1)[:, : VISION["hidden_size"]]
    matrix = (directions / (variances + _FAINT).sqrt()).T
    eyes.patch_embedding.weight.copy_(matrix.view_as(eyes.patch_embedding.weight))
    along = torch.linspace(0, 1, SIZE // side) * torch.pi
    waves = torch.stack([(along * turns).cos() for turns in range(1, 5)])  # [4, places along one side]
    across, down = waves[:, None, :].expand(4, 8, 8).reshape(4, -1), waves[:, :, None].expand(4, 8, 8).reshape(4, -1)
    places = torch.cat([across, down]).T @ torch.randn(8, VISION["hidden_size"]) * 0.35  # of variance one half
    eyes.position_embedding.weight[1:] = places - (matrix @ mean).float()


class Learner(nn.Module):
    """The scorer and, for training only, one linear answer for each aspect."""

    def __init__(self, scorer: CLIPModel) -> None:
        super().__init__()
        self.scorer = scorer
        self.answers = nn.ModuleList(nn.Linear(EMBEDDING, len(VALUES[aspect])) for aspect in ASPECTS)


def embed_pictures(scorer: CLIPModel, pictures: Tensor) -> Tensor:
    """Unit vectors, [pictures, EMBEDDING], of uint8 [pictures, 3, SIZE, SIZE]."""
    pooled = scorer.vision_model(to_signed(pictures)).pooler_output
    return functional.normalize(scorer.visual_projection(pooled).float(), dim=1)


def embed_prompts(scorer: CLIPModel, ids: Tensor) -> Tensor:
    """Unit vectors, [prompts, EMBEDDING], of token ids [prompts, tokens]."""
    pooled = scorer.text_model(ids).pooler_output
    return functional.normalize(scorer.text_projection(pooled).float(), dim=1)


@dataclass(frozen=True, slots=True)
class Bank:
    """What batches are made of: masks of every shape, size and place, and pictures in the styles with their scenes."""

    masks: dict[tuple[str, str, str], Tensor]  # uint8 [variants, SIZE, SIZE]
    scenes: list[Scene]
    styled: Tensor  # uint8 [scenes, 3, SIZE, SIZE]


def draw_bank(variants: int, styled: int, seed: int) -> Bank:
    """Draw it: `variants` of each mask, and `styled` pictures of training scenes."""
    random, generator = Random(seed), np.random.default_rng(seed)
    masks = {}
    for shape in SHAPES:
        for size in SIZES:
            for place in PLACES:
                scene = Scene("red", "blue", shape, size, place)  # its colours do not matter here
                drawn = [draw_scene_mask(scene, random) for _ in range(variants)]
                masks[shape, size, place] = torch.from_numpy((np.stack(drawn) * 255).round().astype(np.uint8))
    scenes = [assert_trainable(scene) for scene in random.sample(training_scenes(), styled)]
    pictures = []
    for scene in scenes:
        style = STYLES[random.choice(list(STYLES))]
        mask = draw_scene_mask(scene, random)
        pictures.append(to_uint8(style(mask, colour_of(scene.colour), colour_of(scene.ground), generator)))
    return Bank(masks, scenes, torch.stack(pictures))


def changed(scene: Scene, aspect: str, random: Random) -> Scene:
    """The scene with another value of one aspect; colour and ground still differ."""
    taken = {getattr(scene, aspect)} | ({scene.colour, scene.ground} if aspect in ("colour", "ground") else set())
    return replace(scene, **{aspect: random.choice([value for value in VALUES[aspect] if value not in taken])})


def draw_alike(count: int, scenes: list[Scene], allowed: frozenset[Scene], random: Random) -> list[Scene]:
    """Training scenes in rows of `_ALIKE`: each row's first by chance, the others with one aspect of it changed."""
    chosen: list[Scene] = []
    while len(chosen) < count:
        first = random.choice(scenes)
        chosen.append(first)
        while len(chosen) % _ALIKE and len(chosen) < count:
            other = changed(first, random.choice(ASPECTS), random)
            if other in allowed and other not in chosen[-_ALIKE:]:
                chosen.append(assert_trainable(other))
    return chosen


def compose(bank: Bank, scenes: list[Scene], random: Random) -> Tensor:
    """Pictures of the scenes from the bank's masks: uint8 [scenes, 3, SIZE, SIZE]."""
    drawn = [bank.masks[scene.shape, scene.size, scene.place] for scene in scenes]
    mask = torch.stack([each[random.randrange(len(each))] for each in drawn])[:, None].float() / 255
    colour, ground = (
        torch.tensor([PALETTE[getattr(scene, aspect)] for scene in scenes])[..., None, None]
        for aspect in ("colour", "ground")
    )
    return (mask * colour + (1 - mask) * ground).round().byte()


def worn(pictures: Tensor) -> Tensor:
    """The pictures a little blurred, lightened or darkened, and noisy, each by a measure of its own."""
    share = torch.rand(len(pictures), 1, 1, 1)
    sharp = pictures.float()
    soft = torch.lerp(sharp, functional.avg_pool2d(sharp, 3, 1, 1, count_include_pad=False), share)
    light = 6 * torch.randn(len(pictures), 3, 1, 1)
    noise = 8 * torch.rand(len(pictures), 1, 1, 1) * torch.randn(sharp.shape)
    return (soft + light + noise).clamp(0, 255).round().byte()


def told_whole(scene: Scene, random: Random) -> str:
    """A prompt in one of many wordings that leaves nothing of the scene out."""
    while True:
        text, answers = told(scene, random)
        if all(answer < len(VALUES[aspect]) for aspect, answer in zip(ASPECTS, answers, strict=True)):
            return text


def train(arguments: argparse.Namespace) -> None:
    """Train, then write the average weights in fp16 with tokenizer and image processor."""
    device, tokenizer = device_at_hand(), build()
    torch.manual_seed(arguments.seed)
    bank = draw_bank(arguments.masks, arguments.styled, arguments.seed)
    learner = Learner(new_scorer(arguments.model / "text_encoder"))
    open_eyes(learner.scorer, bank.styled[:400])
    scorer = learner.to(device).train().scorer
    scenes = training_scenes()
    allowed, styled = frozenset(scenes), arguments.batch // 4
    optimizer, average, meter = MuonAndAdamW(learner, _OUTER), Average(learner, 0.99), Meter()
    state = {"learner": learner, "optimizer": optimizer, "average": average.network}
    for step in Run(arguments.work, arguments.steps, arguments.rate, state, arguments.minutes):
        random = Random(arguments.seed * 1_000_003 + step)
        plain = draw_alike(arguments.batch - styled, scenes, allowed, random)
        picked = torch.randint(len(bank.scenes), (styled,))
        shown = plain + [bank.scenes[i] for i in picked.tolist()]
        pictures = worn(torch.cat([compose(bank, plain, random), bank.styled[picked]])).to(device)
        ids = tokens_of(tokenizer, [told_whole(scene, random) for scene in shown], _SHORT).to(device)
        wanted = torch.tensor([[VALUES[a].index(getattr(scene, a)) for a in ASPECTS] for scene in shown]).to(device)
        with half_precision(device):
            seen, read = embed_pictures(scorer, pictures), embed_prompts(scorer, ids)
        scores = scorer.logit_scale.exp() * seen @ read.T
        own = torch.arange(len(shown), device=device)
        contrast = (functional.cross_entropy(scores, own) + functional.cross_entropy(scores.T, own)) / 2
        answers = [answer(EMBEDDING**0.5 * seen) for answer in learner.answers]
        named = torch.stack([functional.cross_entropy(answer, wanted[:, i]) for i, answer in enumerate(answers)]).mean()
        optimizer.zero_grad()
        (contrast + named).backward()  # type: ignore[no-untyped-call]  # torch has no types here
        torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            scorer.logit_scale.clamp_(max=4.6)  # a hundred, as CLIP's: beyond it training is unstable
        average.update(learner, step)
        right = (scores.argmax(1) == own).float().mean()
        shape = (answers[ASPECTS.index("shape")].argmax(1) == wanted[:, ASPECTS.index("shape")]).float().mean()
        meter.add(contrast=contrast, named=named, right=right, shape=shape)
        if step % 50 == 49:
            print(meter, flush=True)
        if step % 200 == 199:
            save(average, tokenizer, arguments.out)
    save(average, tokenizer, arguments.out)


def save(average: Average, tokenizer: Tokenizer, folder: Path) -> None:
    """Write what `CLIPModel.from_pretrained` and `CLIPProcessor.from_pretrained` read."""
    scorer = average.network.scorer
    assert isinstance(scorer, CLIPModel)
    copy = CLIPModel(scorer.config)
    copy.load_state_dict(scorer.state_dict())
    copy.to(dtype=torch.float16).save_pretrained(str(folder))
    size = {"height": SIZE, "width": SIZE}
    half = [0.5, 0.5, 0.5]
    CLIPImageProcessorPil(
        size=size, crop_size=size, do_center_crop=False, image_mean=half, image_std=half
    ).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))


class Scorer:
    """The trained scorer: how well prompts tell what pictures show, each as a cosine."""

    def __init__(self, folder: Path) -> None:
        self._scorer = CLIPModel.from_pretrained(str(folder), dtype=torch.float32).eval()
        self._tokenizer = Tokenizer.from_pretrained(str(folder))

    @torch.no_grad()
    def scores(self, pictures: list[Image.Image], prompts: list[list[str]]) -> Tensor:
        """[pictures, prompts]: of each picture (resized to SIZE) with each of its own prompts, equally many for all."""
        arrays = [
            np.array(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC)) for picture in pictures
        ]
        stacked = torch.from_numpy(np.stack(arrays)).permute(0, 3, 1, 2)
        seen = torch.cat([embed_pictures(self._scorer, some) for some in torch.split(stacked, 64)])
        flat = [prompt for some in prompts for prompt in some]
        told = tokens_of(self._tokenizer, flat, LENGTH)
        read = torch.cat([embed_prompts(self._scorer, some) for some in torch.split(told, 128)])
        return torch.einsum("pe,pqe->pq", seen, read.view(len(pictures), -1, EMBEDDING))


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.training.scorer", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/demo"), help="has text_encoder/")
    parser.add_argument("--out", type=Path, default=Path("build/model/scorer"))
    parser.add_argument("--work", type=Path, default=Path("build/model/scorer-run"), help="state to resume from")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=1e9, help="end by then, however many steps were made")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument(
        "--masks", type=int, default=24, help="of each shape, size and place, moved and grown at random"
    )
    parser.add_argument("--styled", type=int, default=4000, help="pictures in one of the ten styles")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # of the whole process, so not in `train`, which tests call too
    train(parse())
