"""The model that lies in the working folder, where no setting names one: as servers of Stable Diffusion XL keep theirs."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path("model")

# A folder that a card can be read of has one of these; ai.cards, which this floor does not see, has the same.
MARKS = ("model_index.json", "card.toml", "sd_xl_base_1.0.safetensors")


def local_model() -> dict[str, str]:
    """Its name and its place; nothing where there is none."""
    holds = any((FOLDER / name).is_file() for name in MARKS)
    return {FOLDER.name: str(FOLDER.resolve())} if holds else {}
