"""Texts as vectors, near each other where they mean the same: any encoder of texts in transformers' layout.

ATELIER_CUSTOM_MODELS=embedder=ai.custom.examples.embedding:Embedder@/models/minilm
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ai.custom.examples.folders import FROM_HERE, checked


class Embedder:
    """Makes a vector of each text: the mean over its tokens, of length 1."""

    model_type = "embeddings"
    repeatable = True

    def __init__(self, folder: str) -> None:
        self._folder = checked(folder)

    def load(self) -> None:
        """Read the folder: its network and its tokenizer."""
        from transformers import AutoModel, AutoTokenizer

        self._reads: Any = AutoTokenizer.from_pretrained(self._folder, **FROM_HERE)
        network: Any = AutoModel
        self._network = network.from_pretrained(self._folder, use_safetensors=True, **FROM_HERE).eval()

    def predict(
        self,
        texts: Annotated[
            list[Annotated[str, Field(max_length=20_000)]], Field(min_length=1, max_length=64, description="The texts.")
        ],
    ) -> list[list[float]]:
        """A vector a text, in their order; what is longer than the model reads is cut."""
        import torch

        most = min(
            int(self._reads.model_max_length), int(getattr(self._network.config, "max_position_embeddings", 512))
        )
        with torch.inference_mode():
            tokens = self._reads(texts, padding=True, truncation=True, max_length=most, return_tensors="pt")
            states = self._network(**tokens).last_hidden_state
            there = tokens["attention_mask"][..., None]
            means = (states * there).sum(1) / there.sum(1).clamp(min=1)
            vectors = torch.nn.functional.normalize(means.float(), dim=-1)
        return [list(map(float, vector)) for vector in vectors]
