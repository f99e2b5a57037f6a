"""A Stable Diffusion 1.5 checkpoint of a few thousand random weights, in every layout the loader reads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from safetensors.torch import load_file, save_file

SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.42.1",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def build_folder(folder: Path, **scheduler: object) -> Path:
    """Write a diffusers folder; the same weights every time. `scheduler` are further entries of its configuration."""
    torch.manual_seed(20)
    networks(build_tokenizer()).save_pretrained(folder)
    set_scheduler(folder, **scheduler)
    return folder


def set_scheduler(folder: Path, **scheduler: object) -> None:
    """Write the folder's scheduler configuration anew."""
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER | scheduler))


def build_vae(**config: object) -> Any:
    """A tiny VAE; `config` are further entries of its configuration."""
    return diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        **config,
    )


def text_config(tokenizer: Any, **config: object) -> Any:
    """A tiny text encoder's configuration for the tokenizer; `config` are other entries of it."""
    vocabulary = len(tokenizer)
    values: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": 24,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1,
        "pad_token_id": vocabulary - 1,
    }
    return transformers.CLIPTextConfig(**(values | config))


def networks(tokenizer: Any, unet: Mapping[str, object] | None = None, **text_encoder: object) -> Any:
    """A pipeline of tiny networks; what is given are other entries of the networks' configurations."""
    values: dict[str, Any] = {
        "sample_size": 8,
        "layers_per_block": 1,
        "block_out_channels": (16, 32),
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 24,
        "attention_head_dim": 2,
        "norm_num_groups": 8,
    }
    return diffusers.StableDiffusionPipeline(
        unet=diffusers.UNet2DConditionModel(**(values | dict(unet or {}))),
        vae=build_vae(),
        text_encoder=transformers.CLIPTextModel(text_config(tokenizer, **text_encoder)),
        tokenizer=tokenizer,
        scheduler=diffusers.PNDMScheduler(steps_offset=1, skip_prk_steps=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def byte_alphabet() -> list[str]:
    """The 256 printable stand-ins for bytes that byte-level BPE uses (GPT-2's table)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + index) for index in range(len(others))]


MERGES = [("r", "e"), ("re", "d</w>"), ("c", "a"), ("ca", "t</w>"), ("b", "l"), ("bl", "u"), ("blu", "e</w>")]


def build_tokenizer(**special: str) -> Any:
    """A CLIP tokenizer with the full byte alphabet, a few merges and 77 positions; `special` are other special tokens."""
    symbols = byte_alphabet()
    words = symbols + [symbol + "</w>" for symbol in symbols] + ["".join(pair) for pair in MERGES]
    vocabulary = {word: index for index, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=MERGES, model_max_length=77, **special)


def build_single_file(folder: Path, target: Path) -> Path:
    """The same weights as one LDM-layout file, its configuration folder beside it and the tokenizer in there."""
    renamed = (("unet", partial(ldm_unet_key, attended=0)), ("vae", ldm_vae_key), ("text_encoder", ldm_clip_key))
    save_file({key: value for name, rename in renamed for key, value in read_as(folder / name, rename)}, target)
    shutil.copytree(folder, target.with_suffix(".config"), ignore=shutil.ignore_patterns("*.safetensors"))
    return target


def read_as(folder: Path, rename: Callable[[str], str]) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of one network's folder, by their LDM names and in their LDM shapes."""
    (path,) = folder.glob("*.safetensors")
    return ((rename(key), ldm_shape(key, value)) for key, value in load_file(path).items())


def ldm_shape(key: str, value: torch.Tensor) -> torch.Tensor:
    """The VAE's attention is linear in diffusers and a 1 × 1 convolution in LDM."""
    attention = "mid_block.attentions" in key and key.split(".")[-2] in ("to_q", "to_k", "to_v", "0")
    vae = key.startswith(("encoder.", "decoder."))
    return value[:, :, None, None].contiguous() if vae and attention and value.dim() == 2 else value


UNET_ENDS = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
RESNET_PARTS = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def ldm_unet_key(key: str, attended: int) -> str:
    """Where LDM keeps a tensor of a UNet of two levels, one layer a block, that has attention on one of its levels."""
    for ours, theirs in UNET_ENDS.items():
        if key.startswith(ours + "."):
            return "model.diffusion_model." + key.replace(ours, theirs, 1)
    block, rest = _unet_block(key.split("."), attended)
    for ours, theirs in RESNET_PARTS.items():
        rest = rest.replace(ours + ".", theirs + ".") if ".attentions." not in key else rest
    return f"model.diffusion_model.{block}.{rest}"


def _unet_block(parts: list[str], attended: int) -> tuple[str, str]:
    if parts[0] == "mid_block":
        position = {("resnets", "0"): 0, ("attentions", "0"): 1, ("resnets", "1"): 2}[(parts[1], parts[2])]
        return f"middle_block.{position}", ".".join(parts[3:])
    level, kind, layer = int(parts[1]), parts[2], int(parts[3])
    has_attention = level == (attended if parts[0] == "down_blocks" else 1 - attended)
    if parts[0] == "down_blocks":  # one resnet and one downsampler a level, after conv_in
        if kind == "downsamplers":
            return f"input_blocks.{2 * level + 2}.0.op", ".".join(parts[5:])
        return f"input_blocks.{2 * level + 1}.{int(kind == 'attentions')}", ".".join(parts[4:])
    if kind == "upsamplers":  # beside the level's last resnet
        return f"output_blocks.{2 * level + 1}.{2 if has_attention else 1}.conv", ".".join(parts[5:])
    return f"output_blocks.{2 * level + layer}.{int(kind == 'attentions')}", ".".join(parts[4:])


def ldm_vae_key(key: str) -> str:
    """Where LDM keeps a tensor of the tiny VAE (four levels)."""
    parts = key.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut").split(".")
    if len(parts) > 2 and parts[1] == "mid_block":
        place = f"attn_{int(parts[3]) + 1}" if parts[2] == "attentions" else f"block_{int(parts[3]) + 1}"
        rest = ".".join(parts[4:])
        for ours, theirs in {
            "group_norm": "norm",
            "to_q": "q",
            "to_k": "k",
            "to_v": "v",
            "to_out.0": "proj_out",
        }.items():
            rest = rest.replace(ours, theirs) if parts[2] == "attentions" else rest
        return f"first_stage_model.{parts[0]}.mid.{place}.{rest}"
    if len(parts) > 2 and parts[1] in ("down_blocks", "up_blocks"):
        way = parts[1].removesuffix("_blocks")
        level = int(parts[2]) if way == "down" else 3 - int(parts[2])
        if parts[3].endswith("samplers"):
            return f"first_stage_model.{parts[0]}.{way}.{level}.{way}sample.conv.{parts[-1]}"
        return f"first_stage_model.{parts[0]}.{way}.{level}.block.{'.'.join(parts[4:])}"
    return "first_stage_model." + ".".join(parts)


def ldm_clip_key(key: str) -> str:
    """Where LDM keeps a tensor of the text encoder."""
    return "cond_stage_model.transformer.text_model." + key.removeprefix("text_model.")
