"""What a picture is of, out of the classes that a model was trained on: any image classifier in transformers' layout.

ATELIER_CUSTOM_MODELS=classifier=ai.custom.examples.classification:Classifier@/models/vit
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ai.custom.authoring import Picture
from ai.custom.examples.folders import FROM_HERE, checked


class Classifier:
    """Says which of its classes a picture is of, and how sure it is."""

    model_type = "classification"
    repeatable = True

    def __init__(self, folder: str) -> None:
        self._folder = checked(folder)

    def load(self) -> None:
        """Read the folder: its network, and how it sees."""
        from transformers import AutoImageProcessor, AutoModelForImageClassification

        self._sees: Any = AutoImageProcessor.from_pretrained(self._folder, backend="pil", **FROM_HERE)
        network: Any = AutoModelForImageClassification
        self._network = network.from_pretrained(self._folder, use_safetensors=True, **FROM_HERE).eval()

    def predict(
        self,
        image: Annotated[Picture, Field(description="The picture.")],
        top_k: Annotated[int, Field(ge=1, le=100, description="So many of the likeliest classes.")] = 5,
    ) -> list[dict[str, Any]]:
        """The likeliest first, as {"label", "score"}; the scores of all classes add up to 1."""
        import torch

        with torch.inference_mode():
            logits = self._network(**self._sees(images=image, return_tensors="pt")).logits[0]
        scores, places = logits.float().softmax(-1).topk(min(top_k, len(logits)))
        names = self._network.config.id2label
        return [
            {"label": str(names[int(place)]), "score": float(score)}
            for score, place in zip(scores, places, strict=True)
        ]
