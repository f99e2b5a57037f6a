"""One random adapter for a tiny checkpoint, in every layout that is read."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from diffusers import StableDiffusionXLPipeline
from peft import LoraConfig
from safetensors.torch import save_file
from torch import Tensor

from ai.adapters.adapter import Targets, targets_of
from tests.ai.tiny import build_tokenizer, ldm_unet_key, networks
from tests.ai.tiny_xl import base_networks

Matrices = Mapping[str, tuple[Tensor, Tensor]]
NETWORKS = UNET, TEXT, TEXT_2 = "unet.", "text_encoder.", "text_encoder_2."


@cache
def tiny_targets() -> Targets:
    """The tiny networks' layers."""
    pipeline = networks(build_tokenizer())
    return targets_of({"unet": pipeline.unet, "text_encoder": pipeline.text_encoder})


@cache
def tiny_xl_targets() -> Targets:
    """The layers of the tiny networks with two text encoders."""
    pipeline = base_networks()
    return targets_of({network.rstrip("."): getattr(pipeline, network.rstrip(".")) for network in NETWORKS})


@dataclass(frozen=True, eq=False)
class Made:
    """Random A and B by the model's names of layers, and the alpha that goes with all of them."""

    matrices: Matrices
    alpha: float

    def of(self, prefix: str) -> dict[str, tuple[Tensor, Tensor]]:
        """Those of one network, by their names there."""
        return {name.removeprefix(prefix): pair for name, pair in self.matrices.items() if name.startswith(prefix)}


def make(
    layers: Iterable[str] | None = None,
    *,
    seed: int = 1,
    rank: int = 4,
    alpha: float = 3.0,
    strength: float = 0.12,
    dtype: torch.dtype = torch.float32,
    targets: Targets | None = None,
) -> Made:
    """An adapter of these layers (all there are in the tiny model, or in `targets`); `strength` is the standard deviation
    of B."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (targets or tiny_targets()).shapes
    matrices: dict[str, tuple[Tensor, Tensor]] = {}
    for layer in sorted(shapes if layers is None else layers):
        out, *inside = shapes[layer]
        a = torch.randn((rank, *inside), generator=generator) / torch.tensor(inside).prod().sqrt()
        b = torch.randn((out, rank, *(1 for _ in inside[1:])), generator=generator) * strength
        matrices[layer] = (a.to(dtype), b.to(dtype))
    return Made(matrices, alpha)


def peft_names(matrices: Matrices, prefix: str = "") -> dict[str, Tensor]:
    """As PEFT names them, in their network."""
    halves = {f"{prefix}{layer}.lora_A.weight": a for layer, (a, _) in matrices.items()}
    return halves | {f"{prefix}{layer}.lora_B.weight": b for layer, (_, b) in matrices.items()}


def peft_config(made: Made, layers: Matrices) -> LoraConfig:
    """What PEFT would say of it."""
    rank = next(a.shape[0] for a, _ in layers.values())
    return LoraConfig(r=rank, lora_alpha=made.alpha, target_modules=sorted(layers))  # type: ignore[arg-type]


def save_diffusers(made: Made, folder: Path) -> Path:
    """By diffusers itself, into `pytorch_lora_weights.safetensors` of a folder."""
    parts = {prefix: made.of(prefix) for prefix in NETWORKS}
    metadata = {prefix: json.loads(json.dumps(_config_entries(made, part))) for prefix, part in parts.items() if part}
    StableDiffusionXLPipeline.save_lora_weights(  # writes what the other pipeline's does, and a second text encoder
        folder,
        unet_lora_layers=peft_names(parts[UNET]),
        text_encoder_lora_layers=peft_names(parts[TEXT]),
        text_encoder_2_lora_layers=peft_names(parts[TEXT_2]),
        unet_lora_adapter_metadata=metadata.get(UNET),
        text_encoder_lora_adapter_metadata=metadata.get(TEXT),
        text_encoder_2_lora_adapter_metadata=metadata.get(TEXT_2),
    )
    return folder


def _config_entries(made: Made, layers: Matrices) -> dict[str, object]:
    config = peft_config(made, layers)
    return {"r": config.r, "lora_alpha": config.lora_alpha, "target_modules": sorted(layers)}


def save_peft(made: Made, folder: Path) -> Path:
    """A PEFT folder; of several networks, one in a sub-folder for each."""
    parts = {prefix.rstrip("."): made.of(prefix) for prefix in NETWORKS if made.of(prefix)}
    for name, layers in parts.items():
        target = folder / name if len(parts) > 1 else folder
        target.mkdir(parents=True, exist_ok=True)
        peft_config(made, layers).save_pretrained(str(target))
        save_file(peft_names(layers, "base_model.model."), target / "adapter_model.safetensors")
    return folder


def kohya_keys(made: Made) -> dict[str, Tensor]:
    """kohya's keys: dots as underscores, an alpha beside each pair, and the text encoders as transformers once had them.

    With a second text encoder the first is "te1", and the UNet's layers are called as in the original (LDM) checkpoints.
    """
    is_xl = bool(made.of(TEXT_2))
    tensors: dict[str, Tensor] = {}
    for layer, (a, b) in made.matrices.items():
        module = (_kohya_xl_name(layer) if is_xl else _kohya_name(layer)).replace(".", "_")
        tensors |= {
            f"{module}.lora_down.weight": a,
            f"{module}.lora_up.weight": b,
            f"{module}.alpha": torch.tensor(made.alpha),
        }
    return tensors


def _kohya_name(layer: str) -> str:
    return layer.replace(TEXT, "lora_te_text_model_", 1) if layer.startswith(TEXT) else f"lora_{layer}"


def _kohya_xl_name(layer: str) -> str:
    if layer.startswith(UNET):
        name = ldm_unet_key(f"{layer.removeprefix(UNET)}.weight", attended=1).removesuffix(".weight")
        return name.replace("model.diffusion_model.", "lora_unet_", 1)
    return layer.replace(TEXT_2, "lora_te2_", 1).replace(TEXT, "lora_te1_text_model_", 1)


def save_kohya(made: Made, folder: Path) -> Path:
    """One .safetensors file; `folder` gives its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    target = folder.with_suffix(".safetensors")
    save_file(kohya_keys(made), target, metadata={"ss_network_module": "networks.lora"})
    return target


LAYOUTS: Mapping[str, Callable[[Made, Path], Path]] = {
    "diffusers": save_diffusers,
    "peft": save_peft,
    "kohya": save_kohya,
}
