"""What a picture shows, in words: any image-to-text model in transformers' layout that needs no prompt (BLIP, GIT, ViT-GPT2 …).

ATELIER_CUSTOM_MODELS=captioner=ai.custom.examples.captioning:Captioner@/models/blip
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ai.custom.authoring import Picture
from ai.custom.examples.folders import FROM_HERE, checked


class Captioner:
    """Says what a picture shows."""

    model_type = "image-to-text"
    repeatable = True

    def __init__(self, folder: str) -> None:
        self._folder = checked(folder)

    def load(self) -> None:
        """Read the folder: its network, how it sees, and how it speaks."""
        from transformers import AutoImageProcessor, AutoModelForImageTextToText, AutoTokenizer

        self._sees: Any = AutoImageProcessor.from_pretrained(self._folder, backend="pil", **FROM_HERE)
        self._speaks: Any = AutoTokenizer.from_pretrained(self._folder, **FROM_HERE)
        network: Any = AutoModelForImageTextToText
        self._network = network.from_pretrained(self._folder, use_safetensors=True, **FROM_HERE).eval()

    def predict(
        self,
        image: Annotated[Picture, Field(description="The picture.")],
        max_length: Annotated[int, Field(ge=1, le=200, description="Tokens, at most.")] = 30,
    ) -> str:
        """The likeliest words."""
        import torch

        with torch.inference_mode():
            seen = self._sees(images=image, return_tensors="pt").pixel_values
            tokens = self._network.generate(pixel_values=seen, max_new_tokens=max_length, do_sample=False)
        return str(self._speaks.decode(tokens[0], skip_special_tokens=True)).strip()
