"""The adapters of the benchmarks: which there are, and the same for peers who read diffusers' layout alone.

Copies of the demo model's own where it has ten; else ten random ones of rank 8 on all attention layers and convolutions of
its UNet. Beside them ten random ones of rank 8 on the attention layers alone, which is what most people's adapters change.

    python -m bench.wardrobe FOLDER COUNT     so many of the latter, for a server's ATELIER_ADAPTERS_DIR
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel

from ai.adapters.adapter import Targets, targets_of
from ai.adapters.folder import find_adapters
from ai.adapters.reading import read_adapter
from config.settings import DEMO_MODEL

COUNT = 10  # of each kind, for the benchmarks
RANK = 8
STRENGTH = 0.05  # of B's numbers, A's being of unit length: a picture that differs, and is still one
_ATTENTION = re.compile(r".*\.attn[12]\.(to_q|to_k|to_v|to_out\.0)")
_CONVOLUTION = re.compile(r"(.*\.)?(conv1|conv2|conv_shortcut|conv_in|conv_out)")


def gather(folder: Path) -> tuple[list[str], list[str]]:
    """Lay out what is random in `folder`; the names of the ten adapters for every layer, and of the ten for attention."""
    shapes = _shapes()
    narrow = _write_random(folder, "attention", {n: s for n, s in shapes.items() if _ATTENTION.fullmatch(n)})
    own = find_adapters(DEMO_MODEL / "adapters") if (DEMO_MODEL / "adapters").is_dir() else {}
    if len(own) >= COUNT:
        return [_copy(path, folder) for path in list(own.values())[:COUNT]], narrow
    wide = {n: s for n, s in shapes.items() if _ATTENTION.fullmatch(n) or _CONVOLUTION.fullmatch(n)}
    return _write_random(folder, "style", wide), narrow


def as_diffusers(names: Sequence[str], folder: Path, target: Path) -> None:
    """The same adapters of `folder` as `target`/NAME.safetensors, by diffusers itself."""
    paths, targets = find_adapters(folder), _targets()
    for name in names:
        adapter = read_adapter(paths[name], targets)
        matrices: dict[str, dict[str, torch.Tensor]] = {"unet": {}, "text_encoder": {}}
        for layer, low in adapter.layers.items():
            network, _, inside = layer.partition(".")
            matrices[network][f"{inside}.lora_A.weight"] = low.a.float().contiguous()
            matrices[network][f"{inside}.lora_B.weight"] = (low.b.float() * low.scale).contiguous()
        StableDiffusionPipeline.save_lora_weights(
            target,
            unet_lora_layers=matrices["unet"],
            text_encoder_lora_layers=matrices["text_encoder"] or None,
            weight_name=f"{name}.safetensors",
        )


def _copy(adapter: Path, folder: Path) -> str:
    """Under another name, without its artist, who would sign the pictures."""
    target = folder / f"style-{adapter.name}"
    (shutil.copytree if adapter.is_dir() else shutil.copy)(adapter, target)
    return target.name.removesuffix(".safetensors")


def _write_random(folder: Path, kind: str, shapes: Mapping[str, tuple[int, ...]], count: int = COUNT) -> list[str]:
    names = [f"{kind}-{number}" for number in range(count)]
    for number, name in enumerate(names):
        generator, matrices = torch.Generator().manual_seed(number), {}
        for layer, (out, *inside) in shapes.items():
            a = torch.randn((RANK, *inside), generator=generator)
            matrices[f"{layer}.lora_A.weight"] = a / a.flatten(1).norm(dim=1).mean()
            b = torch.randn((out, RANK, *(1 for _ in inside[1:])), generator=generator)
            matrices[f"{layer}.lora_B.weight"] = b * STRENGTH
        StableDiffusionPipeline.save_lora_weights(folder, unet_lora_layers=matrices, weight_name=f"{name}.safetensors")
    return names


def _shapes() -> dict[str, tuple[int, ...]]:
    """Of the UNet's layers."""
    names = _targets().shapes.items()
    return {name.removeprefix("unet."): shape for name, shape in names if name.startswith("unet.")}


def _targets() -> Targets:
    loading = {"use_safetensors": True, "local_files_only": True}
    unet: nn.Module = UNet2DConditionModel.from_pretrained(DEMO_MODEL, subfolder="unet", **loading)
    text_encoder: nn.Module = CLIPTextModel.from_pretrained(DEMO_MODEL, subfolder="text_encoder", **loading)
    return targets_of({"unet": unet, "text_encoder": text_encoder})


def main(folder: str, count: str) -> None:
    """Write them."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    shapes = {name: shape for name, shape in _shapes().items() if _ATTENTION.fullmatch(name)}
    print(f"{len(_write_random(Path(folder), 'attention', shapes, int(count)))} in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
