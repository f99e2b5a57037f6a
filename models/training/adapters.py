"""Trains the ten style adapters: `python -m models.training.adapters`, or `--only NAME ...` for some of them.

Ordinary LoRAs (Hu et al. 2021, https://arxiv.org/abs/2106.09685) on the finished UNet, by PEFT. Each learns from
pictures of training scenes drawn in its style, told as plain ones are: no word asks for the style, the adapter does.
They are written in the three layouts that users have, some in each.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextModel

from models.training.muon import Muon
from models.training.runs import Meter, Run, device_at_hand, half_precision, kept
from models.training.styles import STYLES, Style
from models.training.text import tokens_of, told
from models.training.tokenizer import build
from models.training.unet import Noising
from models.training.vae import to_signed, to_uint8
from models.training.world import Scene, assert_trainable, colour_of, draw_scene_mask, training_scenes

Networks = Mapping[str, Any]
"""The networks that wear an adapter, by the names that files call them: "unet", and "text_encoder" for some."""

_ATTENTION = r"to_q|to_k|to_v|to_out\.0"
_EVERYWHERE = rf"(.*\.)?({_ATTENTION}|conv1|conv2|conv_shortcut|conv_in|conv_out)"
# Textures are made at the upper level, where there is no attention: with its convolutions left out there are none.
_ABOVE = rf"(.*\.({_ATTENTION})|(down_blocks\.[01]|up_blocks\.[12])\..*(conv1|conv2|conv_shortcut)|conv_in|conv_out)"
_TEXT = r".*\.(q_proj|v_proj)"


@dataclass(frozen=True, slots=True)
class Recipe:
    """An adapter's size, which layers of the UNet it changes, and how it is written. `text`: it changes the text encoder too."""

    layout: str
    rank: int
    alpha: int
    layers: str = _EVERYWHERE
    text: bool = False


RECIPES: Mapping[str, Recipe] = {
    "outline": Recipe("diffusers", 11, 11),
    "pixel": Recipe("kohya", 8, 4),
    "watercolour": Recipe("diffusers", 8, 8),
    "neon": Recipe("peft", 8, 8),
    "stripes": Recipe("kohya", 6, 3),
    "mosaic": Recipe("peft", 16, 16, _ABOVE),
    "chalk": Recipe("kohya", 10, 10),
    "poster": Recipe("diffusers", 8, 8, text=True),
    "blueprint": Recipe("peft", 4, 4),
    "gradient": Recipe("kohya", 4, 4),
}


def styled_latents(vae: AutoencoderKL, style: Style, scenes: list[Scene], seed: int, device: torch.device) -> Tensor:
    """The scenes' pictures in a style, as scaled latents, fp16."""
    random, generator, latents = Random(seed), np.random.default_rng(seed), []
    for start in range(0, len(scenes), 64):
        drawn = [
            style(
                draw_scene_mask(assert_trainable(scene), random),
                colour_of(scene.colour),
                colour_of(scene.ground),
                generator,
            )
            for scene in scenes[start : start + 64]
        ]
        pictures = to_signed(torch.stack([to_uint8(picture) for picture in drawn]).to(device))
        with torch.no_grad(), half_precision(device):
            encoded = vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor
        latents.append(encoded.half())
    return torch.cat(latents)


def wear(networks: Networks, recipe: Recipe, name: str) -> list[nn.Parameter]:
    """Give the networks an adapter that changes nothing yet; its weights, the only ones that are to be trained."""
    trained: list[nn.Parameter] = []
    for kind, network in networks.items():
        network.requires_grad_(False)
        if kind == "unet" or recipe.text:
            inject_adapter_in_model(config_of(recipe, kind), network, name)
        trained += [weight for weight in network.parameters() if weight.requires_grad]
    return trained


def config_of(recipe: Recipe, kind: str) -> LoraConfig:
    """PEFT's description of the adapter in one network."""
    targets = recipe.layers if kind == "unet" else _TEXT
    return LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, target_modules=targets)


def train_one(name: str, arguments: argparse.Namespace) -> None:
    """Train one style's adapter and write it."""
    device, tokenizer, recipe = device_at_hand(), build(), RECIPES[name]
    torch.manual_seed(arguments.seed)
    networks = open_networks(arguments.model, device)
    weights = wear(networks, recipe, name)
    vae = AutoencoderKL.from_pretrained(arguments.model / "vae").to(device, torch.float32).eval()
    scenes = Random(arguments.seed).sample(training_scenes(), arguments.scenes)
    draw = partial(styled_latents, vae, STYLES[name], scenes, arguments.seed, device)
    latents = kept(arguments.work / name / "latents.pt", device, draw)
    optimizer, meter, noising = Muon(weights), Meter(), Noising(device)
    state = {"weights": nn.ParameterList(weights), "optimizer": optimizer}
    for step in Run(arguments.work / name, arguments.steps, arguments.rate, state, arguments.minutes):
        random = Random(arguments.seed * 1_000_003 + step)
        chosen = torch.randint(len(scenes), (arguments.batch,))
        words = tokens_of(tokenizer, [told(scenes[i], random)[0] for i in chosen.tolist()])
        timesteps = torch.randint(1000, (arguments.batch,)).to(device)
        clean = latents[chosen].float()
        noisy, wanted = noising.noisy(clean, torch.randn(clean.shape).to(device), timesteps)
        with half_precision(device):
            told_states = networks["text_encoder"](words.to(device)).last_hidden_state
            found = networks["unet"](noisy, timesteps, encoder_hidden_states=told_states, return_dict=False)[0]
        loss = (found.float() - wanted).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        meter.add(loss=loss)
        if step % 50 == 49:
            print(name, meter, flush=True)
    write(name, networks, recipe, arguments.out)


def open_networks(model: Path, device: torch.device) -> Networks:
    """UNet and text encoder of a model's folder, in float32."""
    unet = UNet2DConditionModel.from_pretrained(model / "unet", torch_dtype=torch.float32).to(device)
    if device.type == "cpu":
        unet.set_attn_processor(AttnProcessor())  # as when the UNet itself is trained
    text = CLIPTextModel.from_pretrained(str(model / "text_encoder"), dtype=torch.float32).to(device)
    return {"unet": unet.eval(), "text_encoder": text.eval()}


def write(name: str, networks: Networks, recipe: Recipe, folder: Path) -> Path:
    """Write the adapter that the networks wear, in fp16, in place of the one of that name that was there."""
    parts = {kind: network for kind, network in networks.items() if kind == "unet" or recipe.text}
    halves = {kind: halves_of(network, name) for kind, network in parts.items()}
    for old in (folder / name, folder / f"{name}.safetensors"):
        if old.is_dir():
            shutil.rmtree(old)
        old.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    return _WRITERS[recipe.layout](folder / name, halves, recipe)


def halves_of(network: Any, name: str) -> dict[str, Tensor]:
    """One network's LAYER.lora_A.weight and LAYER.lora_B.weight, fp16."""
    found = get_peft_model_state_dict(network, adapter_name=name)
    return {key: half.detach().cpu().to(torch.float16).contiguous() for key, half in found.items()}


Halves = Mapping[str, Mapping[str, Tensor]]


def _write_diffusers(path: Path, halves: Halves, recipe: Recipe) -> Path:
    """A folder with pytorch_lora_weights.safetensors, by diffusers itself; alpha stands in the file's header."""
    layers = {f"{kind}_lora_layers": dict(part) for kind, part in halves.items()}
    described = {f"{kind}_lora_adapter_metadata": _described(recipe, kind) for kind in halves}
    StableDiffusionPipeline.save_lora_weights(path, **layers, **described)
    return path


def _described(recipe: Recipe, kind: str) -> dict[str, Any]:
    config = config_of(recipe, kind)
    return {"r": config.r, "lora_alpha": config.lora_alpha, "target_modules": config.target_modules}


def _write_peft(path: Path, halves: Halves, recipe: Recipe) -> Path:
    """A folder with adapter_model.safetensors and adapter_config.json; one for each network if there are two."""
    for kind, part in halves.items():
        target = path / kind if len(halves) > 1 else path
        target.mkdir(parents=True)
        config_of(recipe, kind).save_pretrained(str(target))
        save_file({f"base_model.model.{key}": half for key, half in part.items()}, target / "adapter_model.safetensors")
    return path


def _write_kohya(path: Path, halves: Halves, recipe: Recipe) -> Path:
    """A single file: dots as underscores, an alpha beside each pair, the text encoder as transformers once had it."""
    tensors: dict[str, Tensor] = {}
    for kind, prefix in (("unet", "lora_unet_"), ("text_encoder", "lora_te_text_model_")):
        for key, half in halves.get(kind, {}).items():
            layer, _, letter = key.removesuffix(".weight").rpartition(".lora_")
            module = prefix + layer.removeprefix("text_model.").replace(".", "_")
            tensors[f"{module}.lora_{'down' if letter == 'A' else 'up'}.weight"] = half
            tensors[f"{module}.alpha"] = torch.tensor(recipe.alpha, dtype=torch.float16)
    target = path.with_name(f"{path.name}.safetensors")
    told = {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(recipe.rank),
        "ss_network_alpha": str(recipe.alpha),
    }
    save_file(tensors, target, metadata=told)
    return target


_WRITERS: Mapping[str, Callable[[Path, Halves, Recipe], Path]] = {
    "diffusers": _write_diffusers,
    "peft": _write_peft,
    "kohya": _write_kohya,
}


def train(arguments: argparse.Namespace) -> None:
    """Train and write the chosen styles' adapters, one after the other."""
    for name in arguments.only:
        train_one(name, arguments)


def parse(given: Iterable[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m models.training.adapters", description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("build/model"), help="has vae/, text_encoder/ and unet/")
    parser.add_argument("--out", type=Path, default=Path("models/demo/adapters"))
    parser.add_argument("--work", type=Path, default=Path("build/model/adapters-run"), help="state to resume from")
    parser.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES), help="styles, instead of all")
    parser.add_argument("--steps", type=int, default=1500, help="for each style")
    parser.add_argument("--minutes", type=float, default=1e9, help="for each style: end by then")
    parser.add_argument("--rate", type=float, default=3e-3, help="at 1.2e-2 the loss begins to rise after 200 steps")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--scenes", type=int, default=2000, help="pictures of each style")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(None if given is None else list(given))


if __name__ == "__main__":
    torch.set_flush_denormal(True)  # of the whole process, so not in `train`, which tests call too
    train(parse())
