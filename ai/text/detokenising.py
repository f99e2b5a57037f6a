"""Tokens to text as they come. A character may take several tokens; it is told when it is whole. Plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\N{REPLACEMENT CHARACTER}"
LONGEST = 4  # bytes of a character in UTF-8, and so tokens that may have to be waited for
BEFORE = 6  # tokens of the prompt that a tokenizer needs to see whether a word goes on

Decode = Callable[[Sequence[int]], str]


class Detokeniser:
    """One text. `decode` makes tokens into text; `prompt` are those that the text goes on from."""

    def __init__(self, decode: Decode, prompt: Sequence[int]) -> None:
        self._decode = decode
        self._tokens = list(prompt[-BEFORE:])
        self._told = len(self._tokens)  # tokens whose text was told
        self._before = decode(self._tokens)  # what they are as text

    def add(self, token: int) -> str:
        """One more token: the text that it makes whole, "" where that is not known yet."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        if text.endswith(BROKEN) and len(self._tokens) - self._told < LONGEST:
            return ""
        return self._tell(text)

    def flush(self) -> str:
        """What is left: a character that never became whole."""
        return self._tell(self._decode(self._tokens)) if len(self._tokens) > self._told else ""

    def _tell(self, text: str) -> str:
        more = text[len(self._before) :]
        self._tokens = self._tokens[-BEFORE:]
        self._told = len(self._tokens)
        self._before = self._decode(self._tokens)
        return more
