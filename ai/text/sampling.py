"""Which token comes next: temperature, then the likeliest `top_k`, then of those the fewest with `top_p` of the probability.

The order, and what each leaves, are those of transformers' logits processors (generation/logits_process.py); a token is drawn by
inverting the distribution at a number that each row draws for itself, so that it does not depend on who shares the batch. Of
tokens that are exactly as likely as the last of `top_k`, transformers keeps all, this as many as were asked for. Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

COLD = 1e-4  # a temperature below: divided by less, logits leave the range of float32


@dataclass(frozen=True, slots=True)
class Choice:
    """How one row chooses. A `temperature` of 0, or hardly more, is the likeliest; `top_k` 0 is all of them."""

    temperature: float
    top_p: float
    top_k: int


def next_tokens(logits: Tensor, choices: Sequence[Choice], draws: Sequence[float]) -> list[int]:
    """A token for each row of `logits` [rows, tokens]; `draws` are numbers from 0 up to 1, one a row."""
    chosen = [0] * len(choices)
    for rows in _alike(choices, logits.shape[-1]):
        picked = _pick(logits[rows], [choices[row] for row in rows], [draws[row] for row in rows])
        for row, token in zip(rows, picked, strict=True):
            chosen[row] = token
    return chosen


def shortlist(logits: Tensor, choices: Sequence[Choice]) -> tuple[Tensor, Tensor]:
    """What is drawn from: probabilities and tokens, both [rows, at most so many]; those that are out have 0.

    All rows must have a temperature, and be alike in whether they limit themselves (`_alike`).
    """
    size = logits.shape[-1]
    scaled = logits.float() / torch.tensor([choice.temperature for choice in choices], device=logits.device)[:, None]
    limits = [choice.top_k or size for choice in choices]
    widest = min(max(limits), size)
    wanted = torch.tensor([choice.top_p for choice in choices], device=logits.device)[:, None]
    if widest == size:
        tokens = torch.arange(size, device=logits.device).expand(len(choices), size)
        shares = torch.softmax(scaled, -1)
        return _likeliest(shares, wanted) if bool((wanted < 1).any()) else shares, tokens
    values, tokens = torch.topk(scaled, widest, dim=-1)  # in falling order
    if min(limits) < widest:
        beyond = torch.arange(widest, device=logits.device) >= torch.tensor(limits, device=logits.device)[:, None]
        values = values.masked_fill(beyond, -torch.inf)
    shares = torch.softmax(values, -1)
    before = shares.cumsum(-1) - shares
    out = (before >= wanted) & (wanted < 1)
    out[:, 0] = False
    shares = shares.masked_fill(out, 0.0)
    return shares / shares.sum(-1, keepdim=True), tokens


def _likeliest(shares: Tensor, wanted: Tensor) -> Tensor:
    """The shares [rows, tokens] of the likeliest tokens that have `wanted` [rows, 1] together, in all 1; 0 for all others."""
    falling = _falling(shares)
    before = falling.cumsum(-1, dtype=torch.float64) - falling
    count = (before < wanted).sum(-1, keepdim=True).clamp(min=1)
    least = falling.gather(-1, count - 1)
    above, alike = shares > least, shares == least
    few = alike.cumsum(-1) <= count - above.sum(-1, keepdim=True)  # in half precision many are as likely as the last
    kept = torch.where(above | (alike & few) | (wanted >= 1), shares, 0.0)
    return kept / kept.sum(-1, keepdim=True)


def _falling(shares: Tensor) -> Tensor:
    """Each row in falling order: NumPy puts a vocabulary in order in a thirtieth of torch's time (docs/benchmarks.md, Texts)."""
    if shares.device.type == "cpu":
        return torch.from_numpy(-np.sort(-shares.numpy(), axis=-1))
    return shares.sort(-1, descending=True).values


def _alike(choices: Sequence[Choice], size: int) -> list[list[int]]:
    """The rows by what has to be done for them: nothing but the likeliest, the likeliest few, the likeliest by share, all."""
    kinds: dict[int, list[int]] = {}
    for row, choice in enumerate(choices):
        if choice.temperature < COLD:
            kind = 0
        elif 0 < choice.top_k < size:
            kind = 1
        else:
            kind = 2 if choice.top_p < 1 else 3
        kinds.setdefault(kind, []).append(row)
    return list(kinds.values())


def _pick(logits: Tensor, choices: Sequence[Choice], draws: Sequence[float]) -> list[int]:
    if choices[0].temperature < COLD:
        return logits.argmax(-1).tolist()
    shares, tokens = shortlist(logits, choices)
    reached = shares.double().cumsum(-1)
    marks = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None] * reached[:, -1:]
    places = torch.searchsorted(reached, marks, right=True)
    last = (shares > 0).int().mul(torch.arange(1, shares.shape[-1] + 1, device=logits.device)).argmax(-1, keepdim=True)
    return tokens.gather(-1, torch.minimum(places, last))[:, 0].tolist()
