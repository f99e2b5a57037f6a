"""The tokenizer that the embedded model is made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer, CLIPTokenizer

from models.training.text import new_encoder, strew, tokens_of
from models.training.tokenizer import LENGTH, build, byte_letters, save
from models.training.world import COLOURS, held_out, prompt_of


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Built anew."""
    return build()


def test_each_word_of_the_world_is_one_token(tokenizer: Any) -> None:
    """A prompt has as many tokens as words, beside start and end."""
    for scene in held_out()[::20]:
        prompt = prompt_of(scene)
        assert len(tokenizer(prompt).input_ids) == len(prompt.split()) + 2


def test_it_is_saved_whole(tmp_path: Path, tokenizer: Any) -> None:
    """Read back by either class, it gives the same tokens, and knows its length."""
    save(tmp_path)
    for kind in (CLIPTokenizer, AutoTokenizer):
        again = kind.from_pretrained(str(tmp_path))
        assert again.model_max_length == LENGTH
        assert len(again) == len(tokenizer)
        assert again("a big red star, 고양이 😀").input_ids == tokenizer("a big red star, 고양이 😀").input_ids


@pytest.mark.parametrize(
    "text", ["고양이 한 마리", "😀👩‍👩‍👧", "zebra café", "\x00\x7f", "İstanbul ß", "漢字かな", "!?…"]
)
def test_any_text_comes_back(text: str, tokenizer: Any) -> None:
    """No character is unknown: the tokens spell the text's bytes, in lower case, and none of them is the end's."""
    ids = tokenizer(text).input_ids[1:-1]
    assert tokenizer.eos_token_id not in ids
    spelled = "".join(tokenizer.convert_ids_to_tokens(ids)).replace("</w>", "")
    byte_of = {letter: byte for byte, letter in _byte_table()}
    assert bytes(byte_of[letter] for letter in spelled).decode() == text.lower().replace(" ", "")


def _byte_table() -> list[tuple[int, str]]:
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return list(zip([*plain, *(byte for byte in range(256) if byte not in plain)], byte_letters(), strict=True))


def test_the_encoder_pools_prompts_differently(tokenizer: Any) -> None:
    """The encoder knows where this tokenizer's texts end: two prompts do not pool alike, at any length."""
    torch.manual_seed(0)
    encoder = new_encoder(tokenizer).eval()
    with torch.no_grad():
        pooled = encoder(
            tokens_of(tokenizer, [f"a {colour} star" for colour in COLOURS] + ["", "고양이"])
        ).pooler_output
    apart = torch.cdist(pooled, pooled) + torch.eye(len(pooled)) * 9
    assert apart.min() > 0.1
    assert encoder.config.eos_token_id == tokenizer.eos_token_id
    assert encoder.config.max_position_embeddings == LENGTH


def test_strewn_tokens_leave_the_words_in_order(tokenizer: Any) -> None:
    """Meaningless tokens go between the words; words, start and end stay."""
    torch.manual_seed(0)
    ids = tokens_of(tokenizer, ["a red star on a blue background"] * 8)
    strewn = strew(ids, len(tokenizer), int(tokenizer.eos_token_id), share=1.0)
    for before, after in zip(ids.tolist(), strewn.tolist(), strict=True):
        assert [token for token in after if token >= 512 or token in before][:9] == before[:9]
        assert after != before
