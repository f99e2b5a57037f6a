"""Fits the style judge: `python -m models.training.style_fit`, from drawn pictures of training scenes.

Each picture is measured as it was drawn and as the VAE gives it back from latents with a little noise and with much, so
that what a VAE and an inexact UNet do to pixels decides nothing. Plain pictures are also painted: what the model does
wrong without an adapter is no style. Nothing painted in a style is looked at here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers import AutoencoderKL
from numpy.typing import NDArray

from models.painting import Wish, paint
from models.training.judge import to_floats
from models.training.shapes import Floats
from models.training.style_judge import BASE, MEASURES, NAMES, RULE, Rule, draw_in, measures
from models.training.vae import to_signed, to_uint8
from models.training.world import prompt_of, training_scenes

_STEPS, _RATE, _MOMENTUM, _DECAY = 3000, 0.5, 0.9, 1e-4
_NOISES = (0.1, 0.3)  # on the latents, whose variance is one


@torch.no_grad()
def through(vae: AutoencoderKL, pictures: list[Floats], noise: float) -> list[Floats]:
    """The pictures encoded, made a little noisy, and decoded."""
    given = torch.stack([to_uint8(picture.clip(0, 1)) for picture in pictures])
    back = []
    for some in torch.split(to_signed(given), 32):
        latents = vae.encode(some).latent_dist.mode()
        decoded = vae.decode(latents + noise * torch.randn(latents.shape)).sample
        back.append(((decoded + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1))
    return list(torch.cat(back).numpy().astype(np.float32))


def fit(measured: Floats, styles: NDArray[np.int64]) -> Rule:
    """Multinomial logistic regression of [n, measures] on the styles' numbers, by plain gradient descent."""
    signed = np.sign(measured) * np.sqrt(np.abs(measured))
    centre, spread = signed.mean(axis=0), signed.std(axis=0) + 1e-6
    given = np.concatenate([(signed - centre) / spread, np.ones((len(signed), 1))], axis=1)
    wanted = np.eye(len(NAMES))[styles]
    weights, moving = np.zeros((given.shape[1], len(NAMES))), np.zeros((given.shape[1], len(NAMES)))
    for _ in range(_STEPS):
        scores = given @ weights
        shares = np.exp(scores - scores.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        moving = _MOMENTUM * moving + given.T @ (shares - wanted) / len(given) + _DECAY * weights
        weights = weights - _RATE * moving
    return Rule(*(each.astype(np.float32) for each in (centre, spread, weights)))


def save(rule: Rule, path: Path) -> None:
    """Write the rule, a line for each measure's weights."""
    rows = [f"  {json.dumps(row)}" for row in rule.weights.round(4).astype(float).round(4).tolist()]
    lines = [
        f'"{name}": {json.dumps(getattr(rule, name).astype(float).round(5).tolist())}' for name in ("centre", "spread")
    ]
    about = f'"measures": {json.dumps(MEASURES)},\n"styles": {json.dumps(NAMES)}'
    text = "{\n" + ",\n".join([about, *lines, '"weights": [\n' + ",\n".join(rows) + "\n]"]) + "\n}\n"
    path.write_text(text, encoding="ascii")


def main(given: list[str] | None = None) -> None:
    """Draw, measure, fit, write."""
    parser = argparse.ArgumentParser(prog="python -m models.training.style_fit", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("models/demo"))
    parser.add_argument("--each", type=int, default=60, help="pictures of each style, and plain ones")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RULE)
    arguments = parser.parse_args(given)
    torch.manual_seed(arguments.seed)
    vae = AutoencoderKL.from_pretrained(arguments.model / "vae", torch_dtype=torch.float32).eval()
    random, generator = Random(arguments.seed), np.random.default_rng(arguments.seed)
    measured: list[Floats] = []
    named: list[int] = []
    for style in NAMES:
        scenes = random.sample(training_scenes(), arguments.each)
        pictures = [draw_in(style, scene, random, generator) for scene in scenes]
        versions = [pictures, *(through(vae, pictures, noise) for noise in _NOISES)]
        if style == BASE:
            scenes += random.sample(training_scenes(), arguments.each)
            wishes = [Wish(prompt_of(scene), number) for number, scene in enumerate(scenes)]
            versions.append([to_floats(picture) for picture in paint(arguments.model, wishes)])
        measured += [measures(picture) for version in versions for picture in version]
        named += [NAMES.index(style)] * (len(measured) - len(named))
        print(style, flush=True)
    save(fit(np.stack(measured), np.array(named)), arguments.out)


if __name__ == "__main__":
    main()
