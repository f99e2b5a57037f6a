"""Stable Diffusion 1.5 and 2.x, and every model of their architecture, whatever its size. Imports torch and diffusers.

What must come out is what StableDiffusionPipeline paints, or with an init image StableDiffusionImg2ImgPipeline
(https://github.com/huggingface/diffusers, 0.42). The two differ by what their configurations say: 2.x has OpenCLIP's text
encoder without its last layer, linear projections around its attention, and in its larger form predicts v.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import transformers
from diffusers import StableDiffusionPipeline

from ai.adapters.residents import Worn, acting_on
from ai.adapters.stacks import AdapterStacks
from ai.cards import ModelCard
from ai.device import Place
from ai.families.checkpoints import Recipe, load_model
from ai.families.family import Conditioning, Model, Prompted
from ai.families.known import CONFIGS, FAMILIES
from ai.families.latent import LatentDiffusion
from ai.families.prompts import PromptEncoder
from ai.types import EngineSettings, GenerationRequest

RECIPE = Recipe(
    family="sd15",
    pipeline=StableDiffusionPipeline,
    text_encoders={"text_encoder": transformers.CLIPTextModel},
    shipped_config=CONFIGS / "sd15",
    unet_inputs={"addition_embed_type": None, "time_cond_proj_dim": None},
    left_out={"safety_checker": None, "requires_safety_checker": False},  # no picture is judged here
)
# OpenCLIP was trained with id 0 after the end of the text.
SECOND = replace(RECIPE, shipped_config=CONFIGS / "sd2", pad_tokens={"tokenizer": "!"})
SECOND_V = replace(SECOND, shipped_config=CONFIGS / "sd2_v")


class StableDiffusion15(LatentDiffusion):
    """A loaded model of the family."""

    def __init__(self, pipeline: Any, place: Place, adapters: AdapterStacks) -> None:
        super().__init__(pipeline, place, adapters)
        self._prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, place.device)
        self._prompts.encode("")  # the usual negative prompt; a tokenizer that does not fit its encoder fails here

    def _prompt(self, request: GenerationRequest, worn: Sequence[Worn]) -> Prompted:
        """Encode prompt and, with guidance, negative prompt: `text` is [1, tokens, width]."""
        acting = acting_on("text_encoder", worn)
        positive = self._prompts.encode(request.prompt, acting)
        warnings = self._prompts.warning("prompt", positive)
        if request.guidance_scale <= 1:  # as diffusers: 1 weighs the unconditional prediction with 0
            return Prompted({"text": positive.embedding}, None, warnings)
        negative = self._prompts.encode(request.negative_prompt, acting)
        warnings += self._prompts.warning("negative_prompt", negative)
        return Prompted({"text": positive.embedding}, {"text": negative.embedding}, warnings)

    def _told(self, conditioning: Conditioning) -> dict[str, Any]:
        return {"encoder_hidden_states": conditioning["text"]}


def load(card: ModelCard, settings: EngineSettings) -> Model:
    """Load a card's model. Raises ModelLoadError for whatever is missing, refused, damaged or of another family."""

    def build(pipeline: Any, place: Place) -> Model:
        networks = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
        return StableDiffusion15(pipeline, place, AdapterStacks(networks, place, settings))

    return load_model(card.source, recipe_of(card.source), settings, build, card.vae)


def recipe_of(source: str) -> Recipe:
    """1.5's or 2.x's. Told for a single file alone, since all others say it in their configurations. Raises ModelLoadError."""
    path = Path(source)
    if not path.is_file() or path.suffix != ".safetensors":
        return RECIPE
    shipped = FAMILIES["sd15"].shipped_config(path)
    return next(recipe for recipe in (RECIPE, SECOND, SECOND_V) if recipe.shipped_config == shipped)
