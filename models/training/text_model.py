"""Trains the embedded text model: `python -m models.training.text_model`; under three minutes on two cores.

A GPT-2 of 0.1 million weights that writes prompts for the embedded painter: every sentence of the world's grammar, as often as
any other (`models/training/world.py`). Given the beginning of one it goes on from there. What comes out is an ordinary folder in
transformers' layout, in float32, with a card beside it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from random import Random
from typing import cast

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional

from models.training.runs import Average, Meter, Run, device_at_hand
from models.training.world import COLOURS, prompt_of, training_scenes

END = "<|end|>"
CONTEXT = 128  # tokens; a sentence has 14 at most, and whoever writes on beyond its end may
WIDTH, LAYERS, HEADS = 64, 2, 4
STEPS, BATCH, PEAK = 3000, 128, 5e-3
ONES = 20  # tokens of a training row
GROUND = 8.0  # how often the ground counts
UNLIKE = 30.0  # and that it is not the shape's own colour

CARD = """\
description = "Prompts for the embedded painter: a [small|big] COLOUR SHAPE on a GROUND background [at the left|right|top|bottom]"

[defaults]
max_length = 40
temperature = 1.0
top_p = 0.98
top_k = 50
"""


def new_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Bytes, and each word of the world as one token; a text begins and ends with the same mark."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=[END], initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        min_frequency=2, show_progress=False,
    )  # fmt: skip
    made.train_from_iterator([prompt_of(scene) for scene in training_scenes()], trainer)
    mark = made.token_to_id(END)
    made.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, mark)])
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token=END, eos_token=END)


def new_network(tokenizer: transformers.PreTrainedTokenizerFast) -> transformers.GPT2LMHeadModel:
    """Untrained."""
    end = tokenizer.eos_token_id
    config = transformers.GPT2Config(
        vocab_size=len(tokenizer), n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS,
        bos_token_id=end, eos_token_id=end, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    return transformers.GPT2LMHeadModel(config)


def word(tokenizer: transformers.PreTrainedTokenizerFast, text: str) -> int:
    """The one token that a word of the world is."""
    (token,) = tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(token)


def rows(tokenizer: transformers.PreTrainedTokenizerFast) -> Tensor:
    """Every sentence that may be trained on: [sentences, ONES], filled up with the mark of the end."""
    end = tokenizer.eos_token_id
    told = tokenizer([prompt_of(scene) for scene in training_scenes()])["input_ids"]
    return torch.tensor([[*tokens, *[end] * (ONES - len(tokens))] for tokens in told])


def loss_of(
    network: transformers.GPT2LMHeadModel, batch: Tensor, end: int, background: int, colours: Tensor
) -> tuple[Tensor, Tensor]:
    """Of each next token, up to the first end; and how likely the ground is the shape's own colour, which it never is.

    What counts most is the ground. That rule saves so little elsewhere that it would be learned last, if at all: so the chance
    that it is broken is a loss of its own (unlikelihood, Welleck et al. 2020).
    """
    logits = network(input_ids=batch[:, :-1]).logits
    after = batch[:, 1:]
    over = torch.cumsum((after == end).int(), 1) > 1  # what fills a row up teaches nothing
    is_ground = functional.pad(after[:, 1:] == background, (0, 1))
    weights = (1.0 + (GROUND - 1.0) * is_ground.float()).masked_fill(over, 0.0)
    each = functional.cross_entropy(logits.flatten(0, 1), after.flatten(), reduction="none").view_as(weights)
    row, place = is_ground.nonzero(as_tuple=True)  # each row has one
    colour = batch.gather(1, torch.isin(batch, colours).int().argmax(1, keepdim=True))[
        row, 0
    ]  # the first is the shape's
    same = logits[row, place].softmax(-1).gather(1, colour[:, None]).squeeze(1)
    return (each * weights).sum() / weights.sum() - UNLIKE * torch.log1p(-same).mean(), same.mean().detach()


def train(work: Path, out: Path, minutes: float) -> None:
    """From nothing, or from where a run was cut short, to the folder `out`."""
    torch.manual_seed(0)
    device, tokenizer = device_at_hand(), new_tokenizer()
    network = new_network(tokenizer).to(device)
    average = Average(network, 0.99)
    optimizer = torch.optim.AdamW(network.parameters(), lr=PEAK, weight_decay=0.01)
    known, end, meter = rows(tokenizer).to(device), tokenizer.eos_token_id, Meter()
    background = word(tokenizer, " background")
    colours = torch.tensor([word(tokenizer, f" {name}") for name in COLOURS], device=device)
    state = {"network": network, "average": average.network, "optimizer": optimizer}
    run = Run(work, STEPS, PEAK, state, minutes)
    for step in run:
        batch = known[torch.tensor(Random(step).choices(range(len(known)), k=BATCH), device=device)]
        loss, same = loss_of(network, batch, end, background, colours)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        average.update(network, step)
        meter.add(loss=loss, same=same)
        if step % 250 == 249:
            print(meter, flush=True)
    cast(transformers.GPT2LMHeadModel, average.network).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "card.toml").write_text(CARD, encoding="utf-8")
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=Path("build/training/text_model"))
    parser.add_argument("--out", type=Path, default=Path("models/text-demo"))
    parser.add_argument("--minutes", type=float, default=10.0)
    given = parser.parse_args()
    train(given.work, given.out, given.minutes)


if __name__ == "__main__":
    main()
