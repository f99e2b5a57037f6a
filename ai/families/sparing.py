"""Measures for devices with little memory, each a setting of its own (docs/small-cards.md). Imports torch.

They are taken at load, before the networks go to the device, so that it never holds what is being saved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from ai.device import Place
from ai.types import EngineSettings, ModelLoadError

QUANTISER = "torchao"


def spare_memory(pipeline: Any, place: Place, settings: EngineSettings) -> None:
    """Do to a loaded pipeline what the settings say, and bring its networks to their device. Raises ModelLoadError."""
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    if settings.weights == "int8":
        for name, network in networks.items():
            if name != "vae":  # which is small, and nearly all convolutions
                quantise(network)
    if settings.attention == "sliced":
        pipeline.enable_attention_slicing("auto")
    if settings.vae_slicing:
        pipeline.vae.enable_slicing()
    if settings.vae_tiling:
        pipeline.vae.enable_tiling()
    offload = settings.cpu_offload if place.device.type != "cpu" else "none"  # there is nowhere else to go
    for name, network in networks.items():
        if offload == "none" or (name == "unet" and offload == "encoders"):
            network.to(place.device)
        elif name == "unet":
            stream_layers(network, place.device)
        else:
            keep_away(network, place.device, ("encode", "decode") if name == "vae" else ("forward",))


def quantise(network: nn.Module) -> None:
    """Keep the weights of the linear layers as int8, with a scale for each output; they compute in the network's format.

    Raises ModelLoadError where the library is not there.
    """
    try:
        from torchao.quantization import Int8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise ModelLoadError(
            f"ATELIER_WEIGHTS=int8 needs {QUANTISER}, which is not installed: pip install -r requirements-int8.txt"
        ) from error
    quantize_(network, Int8WeightOnlyConfig())


def stream_layers(network: nn.Module, device: torch.device) -> None:
    """Keep the weights in the machine's memory; each layer's go to the device when it runs, and leave after it."""
    from accelerate import cpu_offload

    cpu_offload(network, execution_device=device)


def keep_away(network: nn.Module, device: torch.device, ways: tuple[str, ...]) -> None:
    """Keep a network in the machine's memory; it is on the device only while one of these methods runs."""

    def visiting(way: Callable[..., Any]) -> Callable[..., Any]:
        def visit(*args: Any, **kwargs: Any) -> Any:
            network.to(device)
            try:
                return way(*args, **kwargs)
            finally:
                network.to("cpu")

        return visit

    for name in ways:
        setattr(network, name, visiting(getattr(network, name)))
