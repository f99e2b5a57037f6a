"""The rows of one text model: they join at a token and leave at their end, and each pass gives every one of them a token.

On the engine's thread. Imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ai.text.model import TextModel
from ai.text.row import Row, Waiting
from ai.text.sampling import Choice, next_tokens
from ai.types import GenerationError, InputError


class Writer:
    """Keeps `rows` in the order that the model's cache has them."""

    def __init__(self, model: TextModel) -> None:
        self._model = model
        self._cache = model.rows()
        self.rows: list[Row] = []

    def size_with(self, waiting: Waiting | None = None) -> int:
        """The bytes that keys and values take when all rows have come to their longest, with one more if there is one: a batch
        has room for its longest in every row."""
        lengths = [row.waiting.length for row in self.rows] + ([waiting.length] if waiting is not None else [])
        return len(lengths) * max(lengths, default=0) * self._model.bytes_per_token

    def tokenise(self, waiting: Waiting) -> None:
        """Have a prompt cut into tokens. Raises InputError for one that leaves no room for what is to be written."""
        if not waiting.prompt:
            waiting.prompt = tuple(self._model.tokens_of(waiting.request.prompt))
            self._check(waiting)

    def join(self, waiting: Waiting) -> Row:
        """One more row, which has its first token at once. Raises GenerationError."""
        generator = torch.Generator("cpu").manual_seed(waiting.request.seed)
        row = Row(waiting, self._model.text_of, self._model.ends, generator)
        logits, cache = self._model.read(waiting.prompt)
        self._take(logits[None], [row])
        if not row.ended:
            self._cache.join(cache)
            self.rows.append(row)
        return row

    def step(self) -> None:
        """A token for each row. Raises GenerationError where the model says nothing sound."""
        logits = self._model.step([row.token for row in self.rows], self._cache)
        self._take(logits, self.rows)

    def leave(self, row: Row) -> None:
        """A row goes; those that stay keep their places but for the last, which takes this one's."""
        number = self.rows.index(row)
        self._cache.leave(number)
        self.rows[number] = self.rows[-1]
        del self.rows[-1]

    def _take(self, logits: Tensor, rows: Sequence[Row]) -> None:
        if not (logits < torch.inf).all() or not logits.isfinite().any(-1).all():
            raise GenerationError("the model's answer is not a number")
        choices = [Choice(row.request.temperature, row.request.top_p, row.request.top_k) for row in rows]
        tokens = next_tokens(logits, choices, [row.draw() for row in rows])
        for row, token in zip(rows, tokens, strict=True):
            row.take(token)

    def _check(self, waiting: Waiting) -> None:
        prompt, context, most = len(waiting.prompt), self._model.card.context, waiting.request.max_length
        if not prompt:
            raise InputError("input.prompt", "at least 1 token", "this model cannot begin a text without one")
        if prompt >= context:
            limit = f"at most {context - 1} tokens"
            raise InputError("input.prompt", limit, f"has {prompt} tokens; the model takes {limit}")
        if prompt + most > context:
            limit = f"at most {context - prompt} beside this prompt"
            text = f"is {most}; the prompt has {prompt} tokens, and the model's context {context}: {limit}"
            raise InputError("input.max_length", limit, text)
