"""Stable Diffusion XL, base and refiner, and every model of their architecture, whatever its size. Imports torch.

What must come out is what StableDiffusionXLPipeline paints, or, with an init image or for a refiner, which has the second
text encoder alone, StableDiffusionXLImg2ImgPipeline (https://github.com/huggingface/diffusers, 0.42). Beside the prompt the
UNet is told sizes (section 2.2 of https://arxiv.org/abs/2307.01952): the picture the latents were cropped from is taken to
have been as large as the one that is painted, and uncropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from torch import Tensor

from ai.adapters.residents import Worn, acting_on
from ai.adapters.stacks import AdapterStacks
from ai.cards import ModelCard
from ai.device import Place
from ai.families.checkpoints import Recipe, load_model, model_index, tokenizer_of
from ai.families.family import Conditioning, Model, Prompted
from ai.families.known import CONFIGS, FAMILIES
from ai.families.latent import LatentDiffusion
from ai.families.prompts import Encoded, PromptEncoder
from ai.types import EngineSettings, GenerationRequest, ModelLoadError

FIRST = {"text_encoder": transformers.CLIPTextModel}
SECOND = {"text_encoder_2": transformers.CLIPTextModelWithProjection}
# Both encoders have CLIP's vocabulary; the second, OpenCLIP's, was trained with id 0 after the end of the text.
PADDING = {"tokenizer_2": "!"}
INPUTS = {"addition_embed_type": "text_time", "time_cond_proj_dim": None}
NO_WATERMARK = {"add_watermarker": False}  # pictures are signed further on

BASE = Recipe(
    family="sdxl",
    pipeline=diffusers.StableDiffusionXLPipeline,
    text_encoders=FIRST | SECOND,
    shipped_config=CONFIGS / "sdxl",
    unet_inputs=INPUTS,
    pad_tokens=PADDING,
    left_out=NO_WATERMARK,
)
REFINER = Recipe(
    family="sdxl",
    pipeline=diffusers.StableDiffusionXLImg2ImgPipeline,
    text_encoders=SECOND,
    shipped_config=CONFIGS / "sdxl_refiner",
    unet_inputs=INPUTS,
    pad_tokens=PADDING,
    left_out=NO_WATERMARK | {"text_encoder": None, "tokenizer": None},
)

# What diffusers' pipeline says of every picture: one that people liked, unlike one that they did not.
AESTHETIC_SCORE = 6.0
NEGATIVE_AESTHETIC_SCORE = 2.5


class StableDiffusionXL(LatentDiffusion):
    """A loaded model of the family, base or refiner."""

    def __init__(self, pipeline: Any, recipe: Recipe, place: Place, adapters: AdapterStacks) -> None:
        super().__init__(pipeline, place, adapters)
        self._prompts = {
            name: PromptEncoder(
                getattr(pipeline, tokenizer_of(name)), getattr(pipeline, name), place.device, last_but_one=True
            )
            for name in recipe.text_encoders
        }
        self._scored = bool(pipeline.config.get("requires_aesthetics_score", False))
        self._zeros_for_empty = bool(pipeline.config.get("force_zeros_for_empty_prompt", True))
        _check_numbers_told(pipeline, 5 if self._scored else 6)
        self._encoded("")  # a tokenizer that does not fit its encoder fails here

    def _prompt(self, request: GenerationRequest, worn: Sequence[Worn]) -> Prompted:
        """Encode prompt and, with guidance, negative prompt, an empty one as zeros if the model was trained so.

        `text` is [1, tokens, width] of all encoders side by side, `pooled` [1, width] of the last; `sizes` is [1, 6]:
        height and width that were, top and left of the crop, height and width that are to be. Of a refiner it is
        [1, 5], with an aesthetic score instead of the last two.
        """
        positive = self._encoded(request.prompt, worn)
        warnings = self._warnings("prompt", positive)
        told = self._conditioning(request, positive, AESTHETIC_SCORE)
        if request.guidance_scale <= 1:  # as diffusers: 1 weighs the unconditional prediction with 0
            return Prompted(told, None, warnings)
        if not request.negative_prompt and self._zeros_for_empty:
            zeros = {name: torch.zeros_like(told[name]) for name in ("text", "pooled")}
            return Prompted(told, zeros | {"sizes": self._sizes(request, NEGATIVE_AESTHETIC_SCORE)}, warnings)
        negative = self._encoded(request.negative_prompt, worn)
        warnings += self._warnings("negative_prompt", negative)
        return Prompted(told, self._conditioning(request, negative, NEGATIVE_AESTHETIC_SCORE), warnings)

    def _encoded(self, prompt: str, worn: Sequence[Worn] = ()) -> list[Encoded]:
        return [prompts.encode(prompt, acting_on(name, worn)) for name, prompts in self._prompts.items()]

    def _warnings(self, field: str, encoded: list[Encoded]) -> tuple[str, ...]:
        told = (prompts.warning(field, one) for prompts, one in zip(self._prompts.values(), encoded, strict=True))
        return tuple(dict.fromkeys(line for lines in told for line in lines))  # both cut alike

    def _conditioning(self, request: GenerationRequest, encoded: list[Encoded], score: float) -> dict[str, Tensor]:
        pooled = encoded[-1].pooled
        assert pooled is not None, "the second encoder projects"
        text = torch.cat([one.embedding for one in encoded], dim=-1)
        return {"text": text, "pooled": pooled, "sizes": self._sizes(request, score)}

    def _sizes(self, request: GenerationRequest, score: float) -> Tensor:
        size = [request.height, request.width]
        numbers = [*size, 0, 0, *([score] if self._scored else size)]
        return torch.tensor([numbers], dtype=self._place.dtype, device=self._place.device)

    def _told(self, conditioning: Conditioning) -> dict[str, Any]:
        added = {"text_embeds": conditioning["pooled"], "time_ids": conditioning["sizes"]}
        return {"encoder_hidden_states": conditioning["text"], "added_cond_kwargs": added}


def load(card: ModelCard, settings: EngineSettings) -> Model:
    """Load a card's model. Raises ModelLoadError for whatever is missing, refused, damaged or of another family."""
    recipe = REFINER if is_refiner(card.source) else BASE

    def build(pipeline: Any, place: Place) -> Model:
        if pipeline.vae.config.force_upcast and place.dtype is torch.float16:
            pipeline.vae.to(torch.float32)  # inside it are numbers beyond float16's 65,504
        networks = {name: getattr(pipeline, name) for name in ("unet", *recipe.text_encoders)}
        return StableDiffusionXL(pipeline, recipe, place, AdapterStacks(networks, place, settings))

    return load_model(card.source, recipe, settings, build, card.vae)


def is_refiner(source: str) -> bool:
    """Whether the model at `source` has the second text encoder alone. Raises ModelLoadError."""
    index = model_index(source)
    if index is not None:
        return (index.get("text_encoder") or [None])[0] is None
    return FAMILIES["sdxl"].shipped_config(Path(source)) == REFINER.shipped_config


def _check_numbers_told(pipeline: Any, sizes: int) -> None:
    """Raise ModelLoadError unless the UNet takes the pooled prompt and `sizes` numbers beside it."""
    config = pipeline.unet.config
    told = pipeline.text_encoder_2.config.projection_dim + sizes * config.addition_time_embed_dim
    taken = pipeline.unet.add_embedding.linear_1.in_features
    if told != taken:
        raise ModelLoadError(f"unet: takes {taken} numbers beside the prompt, not the {told} it would be told")
