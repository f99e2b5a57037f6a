"""Does an adapter fit a model that is not in memory: asked of the shapes that the model's configurations give. Imports torch.

The networks are made on torch's meta device, which takes a second at most and no memory: only their shapes are needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ai.adapters.adapter import Targets, targets_of
from ai.adapters.reading import read_adapter
from ai.cards import ModelCard
from ai.families.known import CONFIGS, config_folder
from ai.types import AdapterError


@dataclass(frozen=True, slots=True)
class Fitted:
    """What was found: the largest rank of its layers, bytes of its matrices, and a hash of them (SHA-256, hex)."""

    rank: int
    total_bytes: int
    content_id: str


def fit(path: Path, card: ModelCard, *, max_bytes: int, max_rank: int) -> Fitted:
    """Read the adapter at `path` for the card's model. Raises AdapterError for what cannot be applied as it stands."""
    adapter = read_adapter(path, targets_of_card(card), max_bytes=max_bytes, max_rank=max_rank)
    return Fitted(adapter.rank, adapter.total_bytes, adapter.content_hash)


def targets_of_card(card: ModelCard) -> Targets:
    """What of a model an adapter may change, by its configurations alone. Raises AdapterError where there are none."""
    import diffusers
    import transformers

    folder = config_folder(Path(card.source), card.family) if card.source else None
    folder = folder or CONFIGS / (card.family or "?")
    encoders = {
        "text_encoder": transformers.CLIPTextModel,
        "text_encoder_2": transformers.CLIPTextModelWithProjection,
    }
    try:
        with torch.device("meta"):
            networks: dict[str, Any] = {
                "unet": diffusers.UNet2DConditionModel.from_config(
                    diffusers.UNet2DConditionModel.load_config(str(folder / "unet"))
                )
            }
            for name, kind in encoders.items():
                if (folder / name / "config.json").is_file():
                    config = transformers.CLIPTextConfig.from_pretrained(str(folder / name), local_files_only=True)
                    networks[name] = kind(config)
    except Exception as error:  # the libraries raise anything for a configuration that is missing or wrong
        raise AdapterError(f"{card.name}: its configurations cannot be read here: {type(error).__name__}") from error
    return targets_of(networks)
