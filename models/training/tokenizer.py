"""Makes the tokenizer: a real CLIP byte-pair vocabulary, small. `python -m models.training.tokenizer`.

CLIP's alphabet is the 256 bytes, each as a printable letter, with and without `</w>` (the end of a word). Merges join
two tokens into one; here they are learned from the words of the world and of everyday prompts, so that each of those
words is one token. Whatever else is written, in any script, falls apart into shorter tokens and bytes.
(OpenAI CLIP, https://github.com/openai/CLIP, simple_tokenizer.py, is the reference.)
"""

from __future__ import annotations

import argparse
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

from models.training.shapes import SHAPES
from models.training.styles import STYLES
from models.training.world import COLOURS, PLACES, SIZES

START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
LENGTH = 77

_WORLD = [*COLOURS, *SHAPES, *SIZES, *PLACES, *STYLES]
_SAID = "a an one on at in the with and background little large center centre of style grey s"
_EVERYDAY = """
photo picture painting drawing sketch portrait landscape illustration render art artist by masterpiece best quality
detailed high resolution low blurry bad worst ugly deformed watermark text signature logo realistic anime cartoon comic
cute beautiful dark light bright soft warm cold old new tiny huge two three four five many some no not without very
man woman girl boy child people person face eyes hand hands hair dress cat dog bird horse fish dragon robot car ship
city street castle mountain river sea ocean lake forest field sky cloud sun night day sunset winter summer snow rain
fire water glass gold silver metal wood stone paper ink oil acrylic pencil pastel colour color coloured colored gradient
line lines dot dots pattern shape shapes oval rectangle hexagon pentagon triangle arrow sphere cube magenta turquoise
violet beige navy teal maroon olive lime indigo above below over under beside near behind front side corner up down
is are it this that for from to as into her his my your i you
"""


def byte_letters() -> list[str]:
    """The printable letter that stands for each byte, in CLIP's order (and GPT-2's)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    letters = [chr(byte) for byte in plain]
    return letters + [chr(0x100 + i) for i in range(256 - len(plain))]


def learn_merges(words: list[str]) -> list[tuple[str, str]]:
    """Byte-pair merges, the commonest pair first (ties by spelling), until every word is one token."""
    spelled = [[*word[:-1], word[-1] + WORD_END] for word in sorted(set(words))]
    merges: list[tuple[str, str]] = []
    while any(len(word) > 1 for word in spelled):
        pairs = Counter(pair for word in spelled for pair in pairwise(word))
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [_join(word, best) for word in spelled]
    return merges


def _join(word: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for token in word:
        if joined and (joined[-1], token) == pair:
            joined[-1] += token
        else:
            joined.append(token)
    return joined


def build() -> CLIPTokenizer:
    """The tokenizer; the same every time."""
    merges = learn_merges([*_WORLD, *_SAID.split(), *_EVERYDAY.split()])
    letters = byte_letters()
    tokens = [*letters, *(letter + WORD_END for letter in letters), *(a + b for a, b in merges), START, END]
    vocabulary = {token: number for number, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=LENGTH)


def save(folder: Path) -> None:
    """Write tokenizer.json and its configuration."""
    build().save_pretrained(str(folder))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m models.training.tokenizer", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/model/tokenizer"))
    save(parser.parse_args().out)
