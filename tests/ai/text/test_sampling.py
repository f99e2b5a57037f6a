"""Which token comes next, held against transformers' own logits processors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ai.text.sampling import Choice, next_tokens, shortlist

TOKENS = 40
CHOICES = [
    Choice(temperature, top_p, top_k)
    for temperature in (0.3, 1.0, 2.5)
    for top_p in (0.1, 0.5, 0.9, 1.0)
    for top_k in (0, 1, 5, 39, 40, 1000)
]


def logits(rows: int, seed: int = 0) -> Tensor:
    """Opinions that differ."""
    return torch.randn((rows, TOKENS), generator=torch.Generator().manual_seed(seed)) * 3


def by_transformers(row: Tensor, choice: Choice) -> Tensor:
    """The probability of each token."""
    processors = LogitsProcessorList([TemperatureLogitsWarper(choice.temperature)])
    if choice.top_k:
        processors.append(TopKLogitsWarper(choice.top_k))
    if choice.top_p < 1:
        processors.append(TopPLogitsWarper(choice.top_p))
    return torch.softmax(processors(torch.empty((1, 0), dtype=torch.long), row[None])[0], -1)


def spread(row: Tensor, choice: Choice) -> Tensor:
    """Ours, over all tokens."""
    shares, tokens = shortlist(row[None], [choice])
    return torch.zeros(TOKENS).scatter(0, tokens[0], shares[0])


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_probabilities_are_those_of_transformers(choice: Choice) -> None:
    """In the same order: temperature, top_k, top_p."""
    for row in logits(8):
        torch.testing.assert_close(spread(row, choice), by_transformers(row, choice), atol=1e-6, rtol=1e-5)


def test_a_row_s_token_does_not_depend_on_the_others() -> None:
    """Whatever they ask for, each row has what it has alone."""
    opinions, draws = logits(len(CHOICES) + 1, 1), torch.rand(len(CHOICES) + 1, dtype=torch.float64).tolist()
    choices = [*CHOICES, Choice(0.0, 1.0, 0)]
    together = next_tokens(opinions, choices, draws)
    alone = [
        next_tokens(row[None], [choice], [draw])[0] for row, choice, draw in zip(opinions, choices, draws, strict=True)
    ]
    assert together == alone


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    """Each of a hundred thousand draws by its own number."""
    choice, (row,) = Choice(1.0, 0.9, 20), logits(1, 2)
    many = 20_000
    draws = ((torch.arange(many, dtype=torch.float64) + 0.5) / many).tolist()
    drawn = torch.tensor(next_tokens(row.expand(many, TOKENS), [choice] * many, draws))
    found = torch.bincount(drawn, minlength=TOKENS) / many
    torch.testing.assert_close(found, by_transformers(row, choice), atol=2 / many, rtol=0)


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_nothing_is_drawn_that_is_out(draw: float) -> None:
    """Not at either end of the numbers either."""
    for row in logits(20, 3):
        for choice in CHOICES:
            (token,) = next_tokens(row[None], [choice], [draw])
            assert by_transformers(row, choice)[token] > 0


def test_without_temperature_it_is_the_likeliest() -> None:
    """Whatever is drawn."""
    opinions = logits(4, 4)
    assert next_tokens(opinions, [Choice(0.0, 0.5, 3)] * 4, [0.9] * 4) == opinions.argmax(-1).tolist()


@pytest.mark.parametrize("choice", [Choice(1.0, 1e-50, 0), Choice(1e-38, 0.9, 0), Choice(1e-38, 1e-50, 5)], ids=str)
def test_hardly_any_share_and_hardly_any_temperature_leave_the_likeliest(choice: Choice) -> None:
    """What float32 takes for 0, or divides beyond its range, too; a neighbour is none the wiser."""
    opinions = logits(2, 5)
    neighbour = Choice(1.0, 0.9, 0)
    (token, other) = next_tokens(opinions, [choice, neighbour], [0.999, 0.5])
    assert token == int(opinions[0].argmax())
    assert [other] == next_tokens(opinions[1:], [neighbour], [0.5])


def test_of_tokens_as_likely_as_the_last_only_so_many_are_kept_as_are_needed() -> None:
    """In half precision there are many: of ten tokens that are all alike half have half of the probability."""
    shares, _ = shortlist(torch.zeros(1, 10), [Choice(1.0, 0.5, 0)])
    assert int((shares > 0).sum()) == 5
