"""Prompts into CLIP embeddings, as the encode_prompt of diffusers' pipelines makes them. Imports torch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

# A Stable Diffusion 1.5 embedding is 77 × 768 numbers, 118 kB in float16, SDXL's 315 kB: a few MB for prompts that come
# again (always the empty negative; often the same prompt with another seed).
CACHED_PROMPTS = 64


@dataclass(frozen=True, slots=True)
class Encoded:
    """One prompt: `embedding` is [1, tokens, width], `pooled` [1, projected width] of an encoder that projects, and
    `dropped` the end of the prompt that did not fit, as written."""

    embedding: Tensor
    pooled: Tensor | None
    dropped: str | None


class PromptEncoder:
    """A tokenizer and its text encoder (transformers objects, the tokenizer a fast one), with a small LRU cache.

    The embedding is the encoder's last hidden state, normalised, or that of the last layer but one as it is.
    """

    def __init__(self, tokenizer: Any, text_encoder: Any, device: torch.device, *, last_but_one: bool = False) -> None:
        self._tokenizer = tokenizer
        self._text_encoder = text_encoder
        self._device = device
        self._last_but_one = last_but_one
        # A tokenizer that was saved without a length says 1e30; the encoder has no positions beyond its own.
        self.max_tokens = min(int(tokenizer.model_max_length), int(text_encoder.config.max_position_embeddings))
        self._room = self.max_tokens - int(tokenizer.num_special_tokens_to_add(pair=False))
        self._cache: OrderedDict[tuple[str, Hashable], Encoded] = OrderedDict()

    def encode(self, prompt: str, worn: Hashable = ()) -> Encoded:
        """Encode one prompt; what does not fit is cut off at the end, as diffusers does.

        `worn` says what the text encoder wears at the moment (adapters): the same prompt is then another embedding.
        """
        encoded = self._cache.pop((prompt, worn), None) or self._encode(prompt)
        self._cache[prompt, worn] = encoded
        if len(self._cache) > CACHED_PROMPTS:
            self._cache.popitem(last=False)
        return encoded

    def warning(self, field: str, encoded: Encoded) -> tuple[str, ...]:
        """What to tell the author of a prompt that was cut; nothing if it was not."""
        if encoded.dropped is None:
            return ()
        return (f'{field}: cut to {self.max_tokens} tokens; dropped: "{encoded.dropped}"',)

    def _encode(self, prompt: str) -> Encoded:
        tokens = self._tokenizer(
            prompt, padding="max_length", max_length=self.max_tokens, truncation=True, return_tensors="pt"
        )
        masked = getattr(self._text_encoder.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(self._device) if masked else None
        output = self._text_encoder(
            tokens.input_ids.to(self._device), attention_mask=mask, output_hidden_states=self._last_but_one
        )
        embedding: Tensor = output.hidden_states[-2] if self._last_but_one else output.last_hidden_state
        pooled: Tensor | None = getattr(output, "text_embeds", None)
        return Encoded(embedding.to(self._text_encoder.dtype), pooled, self._dropped(prompt))

    def _dropped(self, prompt: str) -> str | None:
        tokens = self._tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        spans: list[tuple[int, int]] = tokens["offset_mapping"]
        return prompt[spans[self._room][0] :].rstrip() if len(spans) > self._room else None
