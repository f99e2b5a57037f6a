"""Which token comes next: temperature, then the likeliest `top_k`, then of those the fewest with `top_p` of the probability.

The order, and what each leaves, are those of transformers' logits processors (generation/logits_process.py); a token is drawn by
inverting the distribution at a number that each row draws for itself, so that it does not depend on who shares the batch. Of
tokens that are exactly as likely as the last of `top_k`, transformers keeps all, this as many as were asked for. Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Choice:
    """How one row chooses. `temperature` 0 is the likeliest; `top_k` 0 is all of them."""

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
    if widest == size and all(choice.top_p >= 1 for choice in choices):
        tokens = torch.arange(size, device=logits.device).expand(len(choices), size)
        return torch.softmax(scaled, -1), tokens
    values, tokens = torch.topk(scaled, widest, dim=-1)  # in falling order
    if min(limits) < widest:
        beyond = torch.arange(widest, device=logits.device) >= torch.tensor(limits, device=logits.device)[:, None]
        values = values.masked_fill(beyond, -torch.inf)
    shares = torch.softmax(values, -1)
    wanted = torch.tensor([choice.top_p for choice in choices], device=logits.device)[:, None]
    before = shares.cumsum(-1) - shares
    out = (before >= wanted) & (wanted < 1)
    out[:, 0] = False
    shares = shares.masked_fill(out, 0.0)
    return shares / shares.sum(-1, keepdim=True), tokens


def _alike(choices: Sequence[Choice], size: int) -> list[list[int]]:
    """The rows by what has to be done for them: nothing but the likeliest, the likeliest few, all in order, all as they are."""
    kinds: dict[int, list[int]] = {}
    for row, choice in enumerate(choices):
        if choice.temperature == 0:
            kind = 0
        elif 0 < choice.top_k < size:
            kind = 1
        else:
            kind = 2 if choice.top_p < 1 else 3
        kinds.setdefault(kind, []).append(row)
    return list(kinds.values())


def _pick(logits: Tensor, choices: Sequence[Choice], draws: Sequence[float]) -> list[int]:
    if choices[0].temperature == 0:
        return logits.argmax(-1).tolist()
    shares, tokens = shortlist(logits, choices)
    reached = shares.double().cumsum(-1)
    marks = torch.tensor(draws, dtype=torch.float64, device=logits.device)[:, None] * reached[:, -1:]
    places = torch.searchsorted(reached, marks, right=True)
    last = (shares > 0).int().mul(torch.arange(1, shares.shape[-1] + 1, device=logits.device)).argmax(-1, keepdim=True)
    return tokens.gather(-1, torch.minimum(places, last))[:, 0].tolist()
