"""Tokens to text as they come, and where a text stops."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as some

from ai.text.detokenising import BROKEN, Detokeniser
from ai.text.stopping import StopWatch
from tests.ai.text.made import tokenizer

WORDS = tokenizer()


def decode(tokens: object) -> str:
    """As the model's own does."""
    return str(WORDS.decode(tokens, skip_special_tokens=True))


@given(some.text(max_size=30), some.text(max_size=10))
def test_text_comes_whole_however_it_is_cut_into_tokens(text: str, prompt: str) -> None:
    """What is told, piece by piece, is the text; no piece ends within a character."""
    text, prompt = (one.encode("utf-8", "ignore").decode().replace(BROKEN, "") for one in (text, prompt))
    detokeniser = Detokeniser(decode, WORDS(prompt)["input_ids"])
    pieces = [detokeniser.add(token) for token in WORDS(text)["input_ids"]]
    assert "".join(pieces) == text
    assert detokeniser.flush() == ""


@given(some.lists(some.integers(1, len(WORDS) - 1), max_size=40))
def test_whatever_the_tokens_are_the_text_is_theirs(tokens: list[int]) -> None:
    """Also of bytes that are no characters."""
    detokeniser = Detokeniser(decode, [])
    assert "".join(map(detokeniser.add, tokens)) + detokeniser.flush() == decode(tokens)


def test_a_character_of_four_tokens_is_told_with_the_last() -> None:
    """Not before, and then at once."""
    tokens = WORDS("🌵")["input_ids"]
    assert len(tokens) == 4
    detokeniser = Detokeniser(decode, WORDS("a ")["input_ids"])
    assert [detokeniser.add(token) for token in tokens] == ["", "", "", "🌵"]


def test_half_a_character_at_the_end_is_told_as_broken() -> None:
    """What never became whole is not left out in silence."""
    detokeniser = Detokeniser(decode, [])
    assert detokeniser.add(WORDS("🌵")["input_ids"][0]) == ""
    assert detokeniser.flush() == BROKEN


@given(
    some.lists(some.text("ab.", max_size=4), max_size=12),
    some.lists(some.text("ab.", min_size=1, max_size=4), min_size=1, max_size=3),
)
def test_a_text_ends_before_the_first_of_its_stops(pieces: list[str], stops: list[str]) -> None:
    """Wherever that begins, and however the pieces cut it; nothing of a stop is told, and nothing else is left out."""
    watch, told = StopWatch(stops), ""
    for piece in pieces:
        told += watch.add(piece)
        if watch.stopped:
            break
    told += watch.flush()
    whole = "".join(pieces)
    ends = [whole.find(stop) for stop in stops if stop in whole]
    assert watch.stopped == bool(ends)
    if not ends:
        assert told == whole
        return
    assert not any(stop in told for stop in stops)
    assert whole.startswith(told)
    assert any(whole.startswith(told + stop) for stop in stops)
