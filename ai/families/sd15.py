"""Stable Diffusion 1.5 and every model of its architecture, whatever its size. Imports torch and diffusers.

diffusers supplies the networks and reads the files; its pipeline and scheduler are not run. What must come out is what
StableDiffusionPipeline with DPMSolverMultistepScheduler paints (https://github.com/huggingface/diffusers, 0.42).

A model is one of:

- a diffusers folder;
- `NAME.safetensors` in the original (LDM) layout. The networks' configurations come from the folder `NAME.config`
  beside it, in the diffusers layout without weights, else from those of Stable Diffusion 1.5 shipped here; the
  tokenizer from `NAME.config/tokenizer`, else from the folder `tokenizer` beside it, else from the hub
  (openai/clip-vit-large-patch14; its vocabulary is not shipped here);
- a hub id.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import StableDiffusionPipeline
from torch import Tensor

from ai.adapters.rack import AdapterRack
from ai.cards import ModelCard
from ai.device import Place, find_place
from ai.families.family import Conditioning, Model, Prompted
from ai.families.previews import LatentColours
from ai.families.prompts import PromptEncoder
from ai.families.sources import SourceKind, check_index, check_pipeline_class, find_source, variant_of
from ai.solvers import SolverTable, build_table, read_schedule
from ai.types import AdapterUse, EngineSettings, GenerationRequest, ModelLoadError

SHIPPED_CONFIG = Path(__file__).parent / "configs" / "sd15"
CLIP_VOCABULARY = "openai/clip-vit-large-patch14"
PIPELINE_CLASS = "StableDiffusionPipeline"
COMPONENTS = ("unet", "vae", "text_encoder")
TABLES = 128  # solver tables kept: one per number of steps in use, a few kB each

# What the engine has no use for: no picture is judged here, so neither checker nor its feature extractor is loaded.
_LEFT_OUT: dict[str, Any] = {
    "safety_checker": None,
    "feature_extractor": None,
    "image_encoder": None,
    "requires_safety_checker": False,
}


class StableDiffusion15:
    """A loaded model of the family (see `ai.families.family.Model`)."""

    def __init__(self, pipeline: Any, place: Place, adapters: AdapterRack) -> None:
        self._unet, self._vae, self._place, self._adapters = pipeline.unet, pipeline.vae, place, adapters
        self._prompts = PromptEncoder(pipeline.tokenizer, pipeline.text_encoder, place.device)
        self._channels = int(self._unet.config.in_channels)
        self._pixels_per_latent = 2 ** (len(self._vae.config.block_out_channels) - 1)
        self._tables = lru_cache(TABLES)(partial(build_table, read_schedule(pipeline.scheduler.config)))
        self._colours = LatentColours(self._encode)
        self._prompts.encode("")  # the usual negative prompt; a tokenizer that does not fit its encoder fails here

    def wear(self, adapters: Sequence[AdapterUse]) -> None:
        """By the rack."""
        self._adapters.activate(adapters)

    def prompt(self, request: GenerationRequest) -> Prompted:
        """Encode prompt and, with guidance, negative prompt: `text` is [1, tokens, width]."""
        worn = self._adapters.worn_by("text_encoder")
        positive = self._prompts.encode(request.prompt, worn)
        warnings = self._prompts.warning("prompt", positive)
        if request.guidance_scale <= 1:  # as diffusers: 1 weighs the unconditional prediction with 0
            return Prompted({"text": positive.embedding}, None, warnings)
        negative = self._prompts.encode(request.negative_prompt, worn)
        warnings += self._prompts.warning("negative_prompt", negative)
        return Prompted({"text": positive.embedding}, {"text": negative.embedding}, warnings)

    def table(self, solver: str, num_inference_steps: int) -> SolverTable:
        """The solver's steps on the noise schedule of the model's scheduler configuration."""
        return self._tables(solver, num_inference_steps)

    def noise(self, seed: int, height: int, width: int) -> Tensor:
        """Noise as diffusers draws it: on the CPU, in the network's dtype (which decides the numbers drawn)."""
        shape = (1, self._channels, height // self._pixels_per_latent, width // self._pixels_per_latent)
        generator = torch.Generator("cpu").manual_seed(seed)
        drawn = torch.randn(shape, generator=generator, dtype=self._place.dtype)
        return drawn[0].to(self._place.device, torch.float32)

    def predict(self, latents: Tensor, timesteps: Tensor, conditioning: Conditioning) -> Tensor:
        """The UNet's prediction for [rows, 4, h, w]."""
        output: Tensor = self._unet(
            latents.to(self._place.dtype), timesteps, encoder_hidden_states=conditioning["text"], return_dict=False
        )[0]
        return output

    def decode(self, latents: Tensor) -> Tensor:
        """The VAE's pictures."""
        scaled = latents.to(self._place.dtype) / self._vae.config.scaling_factor
        pictures: Tensor = self._vae.decode(scaled, return_dict=False)[0]
        return pictures

    def preview(self, latents: Tensor) -> Tensor:
        """Colours by the linear map fitted at load."""
        return self._colours.paint(latents)

    def _encode(self, pictures: Tensor) -> Tensor:
        encoded = self._vae.encode(pictures.to(self._place.device, self._place.dtype)).latent_dist
        latents: Tensor = encoded.mode() * self._vae.config.scaling_factor
        return latents


def load(card: ModelCard, settings: EngineSettings) -> Model:
    """Load a card's model. Raises ModelLoadError for whatever is missing, refused, damaged or of another family."""
    place = find_place(settings)
    kind = find_source(card.source, COMPONENTS, PIPELINE_CLASS)
    # Bars on stderr are for people at a terminal; this is process-wide, as the libraries have it.
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    loaders = {SourceKind.FOLDER: _load_folder, SourceKind.FILE: _load_file, SourceKind.HUB: _load_hub}
    try:
        # The caller is in inference mode, where parameters would become tensors that nothing else can work with.
        with torch.inference_mode(mode=False), torch.no_grad():
            pipeline = loaders[kind](card.source, place.dtype)
            _check_networks(pipeline)
            pipeline.to(place.device)
            networks = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
            return StableDiffusion15(pipeline, place, AdapterRack(networks, place, card.adapters, settings))
    except ModelLoadError as error:
        raise ModelLoadError(f"{card.source}: {str(error).removeprefix(f'{card.source}: ')}") from error
    except Exception as error:  # the libraries raise anything from OSError to KeyError for a bad file
        raise ModelLoadError(f"{card.source}: cannot be loaded: {type(error).__name__}: {error}") from error


def _load_folder(source: str, dtype: torch.dtype) -> Any:
    return _load_diffusers(
        source, dtype=dtype, variant=variant_of(Path(source), "unet"), use_safetensors=True, local_files_only=True
    )


def _load_hub(source: str, dtype: torch.dtype) -> Any:
    index = StableDiffusionPipeline.load_config(source)
    check_pipeline_class(f"{source}/model_index.json", index.get("_class_name"), PIPELINE_CLASS)
    return _load_diffusers(source, dtype=dtype, use_safetensors=True)


def _load_diffusers(source: str, **how: Any) -> Any:
    # diffusers refuses networks whose files lack a tensor; transformers makes one up and says so in a log. So the text
    # encoder is loaded apart, to be asked what was missing.
    text_encoder, report = transformers.CLIPTextModel.from_pretrained(
        source, subfolder="text_encoder", output_loading_info=True, **how
    )
    if report["missing_keys"]:
        raise ModelLoadError(f"{source}: text_encoder: not in the file: {', '.join(sorted(report['missing_keys']))}")
    return StableDiffusionPipeline.from_pretrained(source, text_encoder=text_encoder, **how, **_LEFT_OUT)


def _load_file(source: str, dtype: torch.dtype) -> Any:
    path = Path(source)
    config = path.with_suffix(".config")
    if config.is_dir():
        check_index(config, PIPELINE_CLASS)
    return StableDiffusionPipeline.from_single_file(
        source,
        config=str(config if config.is_dir() else SHIPPED_CONFIG),
        dtype=dtype,
        tokenizer=_tokenizer_for(path, config),
        local_files_only=True,
        **_LEFT_OUT,
    )


def _tokenizer_for(checkpoint: Path, config: Path) -> Any:
    beside = checkpoint.parent / "tokenizer"
    for folder in (config / "tokenizer", beside):
        if (folder / "tokenizer_config.json").is_file():
            return transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        if (folder / "vocab.json").is_file() or (folder / "tokenizer.json").is_file():
            return transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(CLIP_VOCABULARY)
        _check_tokenizer(tokenizer)
    except Exception as error:  # no network, no cache: OSError of several kinds, or a tokenizer without words
        raise ModelLoadError(
            f"{checkpoint}: a single file holds no tokenizer, and {CLIP_VOCABULARY} could not be had from the hub; "
            f"put its vocab.json, merges.txt and tokenizer_config.json into {beside}"
        ) from error
    return tokenizer


def _check_tokenizer(tokenizer: Any) -> None:
    # Where its files are missing, transformers 5 makes a tokenizer of nothing but the special tokens, to which all
    # prompts are alike.
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ModelLoadError("tokenizer: its vocabulary is missing")


def _check_networks(pipeline: Any) -> None:
    """Raise ModelLoadError for weights that the files did not hold and for networks that need more than this family."""
    for name in COMPONENTS:
        missing = [key for key, weight in getattr(pipeline, name).named_parameters() if weight.is_meta]
        if missing:
            raise ModelLoadError(f"{name}: {len(missing)} weights are not in the file, {missing[0]} for one")
    _check_tokenizer(pipeline.tokenizer)
    known, embedded = len(pipeline.tokenizer), pipeline.text_encoder.config.vocab_size
    if known > embedded:
        raise ModelLoadError(f"tokenizer: knows {known} tokens, the text encoder only {embedded}")
    unet, vae = pipeline.unet.config, pipeline.vae.config
    if unet.in_channels != vae.latent_channels or unet.out_channels != vae.latent_channels:
        raise ModelLoadError(
            f"unet: takes {unet.in_channels} channels (inpainting?), the VAE has {vae.latent_channels}"
        )
    if unet.time_cond_proj_dim is not None or unet.addition_embed_type is not None:
        raise ModelLoadError(
            "unet: takes more than a prompt and a timestep (time_cond_proj_dim or addition_embed_type)"
        )
