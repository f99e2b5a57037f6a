"""A Stable Diffusion XL checkpoint of a few thousand random weights and its refiner, in every layout the loader reads."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import save_file

from tests.ai.tiny import build_tokenizer, build_vae, ldm_clip_key, ldm_unet_key, ldm_vae_key, read_as, text_config

SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.42.1",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "use_karras_sigmas": False,
}

FIRST_WIDTH, SECOND_WIDTH, PROJECTED, NUMBER_WIDTH = 24, 32, 20, 8


def build_base(folder: Path, **config: object) -> Path:
    """Write a base model's folder; the same weights every time. `config` are further entries of its model_index.json."""
    torch.manual_seed(21)
    base_networks().save_pretrained(folder)
    return _finish(folder, config)


def build_refiner(folder: Path) -> Path:
    """Write a refiner's folder; the same weights every time."""
    torch.manual_seed(22)
    refiner_networks().save_pretrained(folder)
    return _finish(folder, {})


def _finish(folder: Path, config: dict[str, object]) -> Path:
    index = folder / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | config))
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    return folder


def base_networks() -> Any:
    """A pipeline of tiny networks, both text encoders among them."""
    tokenizer = build_tokenizer()
    return diffusers.StableDiffusionXLPipeline(
        unet=_build_unet(FIRST_WIDTH + SECOND_WIDTH, sizes=6),
        text_encoder=transformers.CLIPTextModel(text_config(tokenizer, hidden_size=FIRST_WIDTH)),
        tokenizer=tokenizer,
        **_shared(),
    )


def refiner_networks() -> Any:
    """A pipeline of tiny networks that has the second text encoder alone."""
    return diffusers.StableDiffusionXLImg2ImgPipeline(
        unet=_build_unet(SECOND_WIDTH, sizes=5),
        text_encoder=None,
        tokenizer=None,
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        **_shared(),
    )


def _shared() -> dict[str, Any]:
    tokenizer = build_tokenizer(pad_token="!")
    config = text_config(tokenizer, hidden_size=SECOND_WIDTH, projection_dim=PROJECTED, hidden_act="gelu")
    return {
        "vae": build_vae(scaling_factor=0.13025, force_upcast=True),
        "text_encoder_2": transformers.CLIPTextModelWithProjection(config),
        "tokenizer_2": tokenizer,
        "scheduler": diffusers.EulerDiscreteScheduler(),
        "add_watermarker": False,
    }


def _build_unet(text_width: int, sizes: int) -> Any:
    return diffusers.UNet2DConditionModel(
        sample_size=8,
        layers_per_block=1,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(2, 4),
        use_linear_projection=True,
        cross_attention_dim=text_width,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=NUMBER_WIDTH,
        projection_class_embeddings_input_dim=PROJECTED + sizes * NUMBER_WIDTH,
    )


def build_single_file(folder: Path, target: Path) -> Path:
    """The same weights as one LDM-layout file, its configuration folder beside it and the tokenizers in there."""
    is_base = (folder / "text_encoder").is_dir()
    tensors = dict(read_as(folder / "unet", partial(ldm_unet_key, attended=1)))
    tensors |= dict(read_as(folder / "vae", ldm_vae_key))
    if is_base:
        tensors |= dict(read_as(folder / "text_encoder", lambda key: _first_embedder(ldm_clip_key(key))))
    tensors |= open_clip(dict(read_as(folder / "text_encoder_2", str)), f"conditioner.embedders.{int(is_base)}.model.")
    save_file(tensors, target)
    shutil.copytree(folder, target.with_suffix(".config"), ignore=shutil.ignore_patterns("*.safetensors"))
    return target


def _first_embedder(key: str) -> str:
    return key.replace("cond_stage_model.", "conditioner.embedders.0.", 1)


OPEN_CLIP_ENDS = {
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
}
OPEN_CLIP_PARTS = {
    "text_model.encoder.layers.": "transformer.resblocks.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}


def open_clip(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """A text encoder as OpenCLIP keeps it: queries, keys and values in one matrix, the projection transposed."""
    projection = tensors.pop("text_projection.weight", None)
    renamed = {} if projection is None else {prefix + "text_projection": projection.T.contiguous()}
    for key in [key for key in tensors if "self_attn.q_proj" in key]:
        parts = [tensors.pop(key.replace("q_proj", f"{letter}_proj")) for letter in "qkv"]
        layer, kind = key.removeprefix("text_model.encoder.layers.").split(".self_attn.q_proj.")
        renamed[f"{prefix}transformer.resblocks.{layer}.attn.in_proj_{kind}"] = torch.cat(parts)
    for key, value in tensors.items():
        name = OPEN_CLIP_ENDS.get(key, key)
        for theirs, ours in OPEN_CLIP_PARTS.items():
            name = name.replace(theirs, ours)
        renamed[prefix + name] = value
    return renamed
