"""Trains the text encoder: `python -m models.training.text`.

A CLIPTextModel that learns from words alone to say, at the end of the text and at every padding after it, what the
text tells: colour, ground, shape, size and place, or that it does not say. It is then frozen, so that the UNet meets
clear words from its first step. Prompts come in many wordings, with words of no meaning strewn in, so that those are
passed over.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from models.training.judge import ASPECTS
from models.training.runs import Meter, Run, device_at_hand
from models.training.shapes import SHAPES
from models.training.tokenizer import LENGTH, build
from models.training.world import COLOURS, PLACES, SIZES, Scene, training_scenes

WIDTH = 128
_ANSWERS = {"colour": COLOURS, "ground": COLOURS, "shape": SHAPES, "size": SIZES, "place": PLACES}
_SHORT = 28  # tokens: enough for any prompt here, and a third of the work


def new_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModel:
    """An untrained encoder that fits the tokenizer."""
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        projection_dim=WIDTH,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def told(scene: Scene, random: Random) -> tuple[str, list[int]]:
    """A prompt for the scene, and what it tells of each aspect: the answer's number, or one past the last for none."""
    answers = [_ANSWERS[aspect].index(getattr(scene, aspect)) for aspect in ASPECTS]
    silent = [len(_ANSWERS[aspect]) for aspect in ASPECTS]
    draw = random.random()
    if draw < 0.06:
        return "", silent
    if draw < 0.2:  # a word or two, as in a negative prompt
        alone = random.randrange(len(ASPECTS))
        silent[alone] = answers[alone]
        return _one_aspect(scene, ASPECTS[alone], random), silent
    return _sentence(scene, answers, random)


def _one_aspect(scene: Scene, aspect: str, random: Random) -> str:
    value = str(getattr(scene, aspect))
    if aspect == "ground":
        return random.choice([f"{value} background", f"on {value}", f"a {value} background"])
    if aspect == "place":
        return "in the middle" if value == "middle" else random.choice([value, f"at the {value}"])
    return random.choice([value, f"a {value}"])


_SIZE_WORDS = {"small": ("small", "little"), "medium": ("", "medium"), "big": ("big", "large")}


def _sentence(scene: Scene, answers: list[int], random: Random) -> tuple[str, list[int]]:
    sides = (f"at the {scene.place}", f"at the {scene.place}", f"on the {scene.place}")
    words: dict[str, str] = {
        "colour": scene.colour,
        "ground": random.choice([f"on a {scene.ground} background", f"on {scene.ground}"]),
        "shape": scene.shape,
        "size": random.choice(_SIZE_WORDS[scene.size]),
        "place": random.choice(("", "in the middle", "in the center") if scene.place == "middle" else sides),
    }
    if random.random() < 0.2:
        silenced = random.choice(["colour", "ground"])
        answers[ASPECTS.index(silenced)] = len(_ANSWERS[silenced])
        words[silenced] = ""
    last = ["place", "ground"] if random.random() < 0.1 else ["ground", "place"]
    parts = [random.choice(["a", "a", "a", "one", ""])]
    parts += [words[name] for name in ("size", "colour", "shape", *last)]
    return random.choices([" ", ", "], (9, 1))[0].join(filter(None, parts)), answers


class Reader(nn.Module):
    """The encoder and, for training only, one linear answer for each aspect."""

    def __init__(self, encoder: CLIPTextModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.answers = nn.ModuleList(nn.Linear(WIDTH, len(_ANSWERS[aspect]) + 1) for aspect in ASPECTS)

    def forward(self, ids: Tensor, length: int, end: int) -> list[Tensor]:
        """Answers at the end of the text and at one padding after it: each [2 * rows, answers]."""
        states = self.encoder(ids).last_hidden_state
        ends = (ids == end).int().argmax(dim=1)
        later = ends + (torch.rand(len(ids), device=ids.device) * (length - ends)).long()
        rows = torch.arange(len(ids), device=ids.device)
        read = torch.cat([states[rows, ends], states[rows, later]])
        return [answer(read) for answer in self.answers]


def strew(ids: Tensor, tokens: int, end: int, share: float = 0.15) -> Tensor:
    """Rows with meaningless tokens set in at random places: a share of the rows gets one to three."""
    result = ids.clone()
    plain = 512  # bytes and bytes at a word's end: what unknown words fall apart into
    for row in torch.nonzero(torch.rand(len(ids)) < share).flatten().tolist():
        for _ in range(int(torch.randint(1, 4, ()))):
            length = int((result[row] == end).int().argmax())
            if length < 2 or length + 2 >= ids.shape[1]:
                continue
            at = int(torch.randint(1, length + 1, ()))
            result[row, at + 1 :] = result[row, at:-1].clone()
            result[row, at] = int(torch.randint(plain, ()))
    return result


def train(arguments: argparse.Namespace) -> None:
    """Train, then write the encoder in fp16."""
    device, tokenizer = device_at_hand(), build()
    torch.manual_seed(arguments.seed)
    reader = Reader(new_encoder(tokenizer)).to(device).train()
    optimizer = torch.optim.AdamW(reader.parameters(), lr=1.0, weight_decay=0.01)
    scenes, meter, end = training_scenes(), Meter(), int(tokenizer.eos_token_id or 0)
    run = Run(arguments.work, arguments.steps, arguments.rate, {"reader": reader, "optimizer": optimizer})
    for step in run:
        random = Random(arguments.seed * 1_000_003 + step)
        prompts = [told(random.choice(scenes), random) for _ in range(arguments.batch)]
        length = LENGTH if step > 0.7 * arguments.steps else _SHORT
        ids = tokens_of(tokenizer, [text for text, _ in prompts], length)
        ids = strew(ids, len(tokenizer), end).to(device)
        wanted = torch.tensor([answers for _, answers in prompts], device=device).repeat(2, 1)
        answers = reader(ids, length, end)
        losses = [functional.cross_entropy(answer, wanted[:, i]) for i, answer in enumerate(answers)]
        optimizer.zero_grad(set_to_none=True)
        torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]  # torch has no types here
        torch.nn.utils.clip_grad_norm_(reader.parameters(), 1.0)
        optimizer.step()
        right = [(answer.argmax(1) == wanted[:, i]).float().mean() for i, answer in enumerate(answers)]
        meter.add(loss=torch.stack(losses).sum(), right=torch.stack(right).min())
        if step % 50 == 49:
            print(meter, flush=True)
    reader.encoder.to("cpu", torch.float16).save_pretrained(str(arguments.out))


def tokens_of(tokenizer: Any, prompts: list[str], length: int = LENGTH) -> Tensor:
    """Prompts as the pipeline gives them to the encoder: [prompts, length]."""
    ids: Tensor = tokenizer(
        prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    ).input_ids
    return ids


def parse(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.training.text", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/model/text_encoder"))
    parser.add_argument("--work", type=Path, default=Path("build/model/text-run"), help="state to resume from")
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


if __name__ == "__main__":
    train(parse())
