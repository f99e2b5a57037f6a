"""Tokens to text as they come. A character may take several tokens; it is told when it is whole. Plain Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\N{REPLACEMENT CHARACTER}"
LONGEST = 4  # bytes of a character in UTF-8: all but the last of them may stand at the end, each told as broken
BEFORE = 6  # tokens that a tokenizer needs to see whether a word goes on

Decode = Callable[[Sequence[int]], str]


class Detokeniser:
    """One text. `decode` makes tokens into text; `prompt` are those that the text goes on from."""

    def __init__(self, decode: Decode, prompt: Sequence[int]) -> None:
        self._decode = decode
        self._tokens = list(prompt)
        self._told = 0  # characters that the tokens in hand have, and that were told
        self._shorten()

    def add(self, token: int) -> str:
        """One more token: the text that it makes whole, "" where that is not known yet."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        more = self._more(_whole(text))
        if not text.endswith(BROKEN):
            self._shorten()
        return more

    def flush(self) -> str:
        """What is left: a character that never became whole."""
        return self._more(self._decode(self._tokens))

    def _more(self, text: str) -> str:
        more, self._told = text[self._told :], max(self._told, len(text))
        return more

    def _shorten(self) -> None:
        """Keep no more tokens than are needed, and none that is the rest of a character whose beginning is left out."""
        for size in range(BEFORE, BEFORE + LONGEST):
            kept = self._tokens[-size:]
            text = self._decode(kept)
            if not text.startswith(BROKEN):
                break
        self._tokens, self._told = kept, len(_whole(text))


def _whole(text: str) -> str:
    """Without what may be the beginning of a character."""
    end = len(text)
    while end > max(0, len(text) - LONGEST + 1) and text[end - 1] == BROKEN:
        end -= 1
    return text[:end]
