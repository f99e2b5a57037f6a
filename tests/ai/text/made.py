"""Small text models with random weights, in transformers' layout, of several architectures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from ai.text.cards import TextCard, read_text_card
from ai.text.model import TextModel, load_text_model
from ai.types import EngineSettings, TextRequest

CONTEXT = 96
CPU = EngineSettings(device="cpu", torch_threads=1)
_WORDS = ["a small red star on a blue background", "der große grüne Baum", "日本語 テキスト", "🌳🌲 tree"]

KINDS: Mapping[str, dict[str, Any]] = {
    "gpt2": {"n_positions": CONTEXT, "n_embd": 48, "n_layer": 2, "n_head": 4},
    "llama": {
        "max_position_embeddings": CONTEXT, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2,
    },
    "gpt_neox": {
        "max_position_embeddings": CONTEXT, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 4,
    },
}  # fmt: skip


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Bytes and a few merges: any text has tokens, and most characters beyond ASCII have several."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(_WORDS[:1] * 3, trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<|end|>", eos_token="<|end|>")


def make(folder: Path, kind: str = "gpt2", *, seed: int = 0) -> Path:
    """A model's folder, of an architecture in KINDS. Its weights are large enough for its opinions to differ."""
    words = tokenizer()
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(
        kind, vocab_size=len(words), bos_token_id=0, eos_token_id=0, initializer_range=0.3, **KINDS[kind]
    )
    network = transformers.AutoModelForCausalLM.from_config(config)
    network.save_pretrained(folder)
    words.save_pretrained(folder)
    assert "architectures" in json.loads((folder / "config.json").read_text())
    return folder


def card(folder: Path, name: str = "words") -> TextCard:
    """The folder's card."""
    return read_text_card(name, str(folder))


def load(folder: Path) -> TextModel:
    """The model, in memory."""
    with torch.inference_mode():
        return load_text_model(card(folder), CPU)


def request(request_id: str, prompt: str = "a small", **values: Any) -> TextRequest:
    """A request with short defaults."""
    asked: dict[str, Any] = {
        "model": "words", "max_length": 20, "temperature": 1.0, "top_p": 1.0, "top_k": 50, "seed": 7, **values,
    }  # fmt: skip
    return TextRequest(request_id=request_id, prompt=prompt, **asked)
