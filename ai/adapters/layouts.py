"""What an adapter's file calls a layer, as the model calls it. Imports torch and diffusers.

Three layouts are told apart by their keys; diffusers' own conversion does the renaming:

    diffusers  unet.LAYER.lora_A.weight (or .lora.down.weight, .processor.to_q_lora.down.weight, as older versions wrote)
               text_encoder.LAYER.lora_A.weight (or .lora_linear_layer.down.weight)
    PEFT       base_model.model.LAYER.lora_A.weight
    kohya      lora_unet_LAYER.lora_down.weight, lora_te_LAYER.…, LAYER.alpha, dots as underscores; UNet layers by
               diffusers' names or by those of the original (LDM) checkpoints

A second text encoder is text_encoder_2, kohya's lora_te2; the first one beside it is his lora_te1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

from diffusers.loaders import StableDiffusionLoraLoaderMixin
from diffusers.utils.state_dict_utils import (
    StateDictType,
    convert_state_dict_to_peft,
    convert_unet_state_dict_to_peft,
)
from torch import Tensor

from ai.adapters.adapter import Targets
from ai.adapters.files import Stored
from ai.adapters.scaling import Scaling, read_scaling
from ai.types import AdapterError

UNET = "unet"
NETWORKS = (UNET, "text_encoder", "text_encoder_2")

# What a key has in it where the file is no plain LoRA, and what it is then.
_OTHER_KINDS = {
    "dora_scale": "DoRA",
    "lora_magnitude_vector": "DoRA",
    "hada_": "LoHa",
    "lokr_": "LoKr",
    "lora_mid": "LoCon with a Tucker core",
    "oft_": "OFT",
    ".boft_": "BOFT",
    ".diff": "a difference of whole weights",
}
_KOHYA = re.compile(r"(lora_(?:unet|te|te1|te2)_\w+)\.(lora_down\.weight|lora_up\.weight|alpha)")
_KOHYA_HALVES = ("lora_down.weight", "lora_up.weight")
_CONVERTED = re.compile(r"(.+)\.lora_([AB])\.weight")
_OLD_TEXT = re.compile(r"\.to_(q|k|v|out)_lora\.")
_PEFT_PREFIX = "base_model.model."


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """A or B (`letter`) of one layer. `key` is what the file calls it, `layer` what the model does."""

    key: str
    layer: str
    letter: str
    tensor: Tensor
    scaling: Scaling


def halves_of(stored: Stored, targets: Targets) -> list[Half]:
    """Every tensor of a file with its place in the model. Raises AdapterError that names a key which has none."""
    _refuse_other_kinds(stored)
    if stored.is_peft:
        return list(_peft(stored, targets))
    if any(key.startswith(("lora_unet_", "lora_te")) for key in stored.tensors):
        return list(_kohya(stored, targets))
    return list(_diffusers(stored, targets))


def _refuse_other_kinds(stored: Stored) -> None:
    if not stored.tensors:
        raise AdapterError(f"{stored.name}: holds no tensors")
    for key in stored.tensors:
        kind = next((kind for mark, kind in _OTHER_KINDS.items() if mark in key), None)
        if kind:
            raise AdapterError(f"{stored.name}: {_short(key)}: this is {kind}; only plain LoRA is read")


def _peft(stored: Stored, targets: Targets) -> Iterator[Half]:
    scaling = read_scaling(stored.config or {}, stored.name)
    for key, tensor in stored.tensors.items():
        match = _CONVERTED.fullmatch(key.removeprefix(_PEFT_PREFIX))
        if match is None:
            raise _unknown(stored, key)
        layer = _peft_layer(match[1], stored.network, targets)
        if layer is None:
            raise _no_layer(stored, key)
        yield Half(key, layer, match[2], tensor, scaling)


def _peft_layer(name: str, network: str | None, targets: Targets) -> str | None:
    """A PEFT file is of one network and does not say of which: its folder does, or else the layers' names."""
    names = [f"{network}.{name}"] if network else [name, *(f"{network}.{name}" for network in NETWORKS)]
    return next(filter(None, (_layer(name, targets) for name in names)), None)


def _diffusers(stored: Stored, targets: Targets) -> Iterator[Half]:
    converted = _all_converted(stored)
    scalings = _scalings(stored)
    for name, key, tensor in _with_origins(stored.tensors, converted, partial(_unknown, stored)):
        match = _CONVERTED.fullmatch(name)
        if match is None:
            raise _unknown(stored, key)
        layer = _layer(match[1], targets)
        if layer is None:
            raise _no_layer(stored, key)
        yield Half(key, layer, match[2], tensor, scalings[layer.split(".")[0]])


def _all_converted(stored: Stored) -> dict[str, Tensor]:
    return {key: tensor for network in NETWORKS for key, tensor in _converted(stored, network).items()}


def _converted(stored: Stored, network: str) -> dict[str, Tensor]:
    """One network's tensors under PEFT's names, by diffusers' conversion; what it does not know stays as it is."""
    prefix = f"{network}."
    part = {key.removeprefix(prefix): tensor for key, tensor in stored.tensors.items() if key.startswith(prefix)}
    new = {key: tensor for key, tensor in part.items() if _CONVERTED.fullmatch(key)}
    old = {key: tensor for key, tensor in part.items() if key not in new}
    if network == UNET:
        renamed = convert_unet_state_dict_to_peft(old)
    else:
        # Told and not guessed, since the guess looks for layers that an adapter need not have.
        oldest = {key: tensor for key, tensor in old.items() if _OLD_TEXT.search(key)}
        rest = {key: tensor for key, tensor in old.items() if key not in oldest}
        renamed = convert_state_dict_to_peft(oldest, StateDictType.DIFFUSERS_OLD)
        renamed |= convert_state_dict_to_peft(rest, StateDictType.DIFFUSERS)
    return {prefix + key: tensor for key, tensor in {**new, **renamed}.items()}


def _scalings(stored: Stored) -> dict[str, Scaling]:
    """Each network's, from the configuration in the file's header ("unet.lora_alpha") where it has one."""
    config = stored.config or {}
    parts = {
        network: {
            key.removeprefix(f"{network}."): value for key, value in config.items() if key.startswith(network + ".")
        }
        for network in NETWORKS
    }
    return {network: read_scaling(part, stored.name) if part else Scaling() for network, part in parts.items()}


def _kohya(stored: Stored, targets: Targets) -> Iterator[Half]:
    weights, alphas = _split_kohya(stored)
    try:
        renamed = replace(stored, tensors=_in_diffusers_words(weights, targets))
    except Exception as error:  # written for sound files, the conversion raises anything for others
        raise _no_layer(stored, _inconvertible(weights, targets)) from error
    for name, key, tensor in _with_origins(weights, _all_converted(renamed), partial(_no_layer, stored)):
        match = _CONVERTED.fullmatch(name)
        layer = match and _layer(match[1], targets)
        if match is None or layer is None:
            raise _no_layer(stored, key)
        yield Half(key, layer, match[2], tensor, Scaling(alphas.get(key.split(".")[0])))


def _in_diffusers_words(weights: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
    named: dict[str, Tensor]
    named, _ = StableDiffusionLoraLoaderMixin.lora_state_dict(dict(weights), unet_config=targets.unet_config)
    return named


def _inconvertible(weights: Mapping[str, Tensor], targets: Targets) -> str:
    """The first key that the conversion fails at, found by giving it one module at a time."""
    for key in weights:
        module = key.split(".")[0]
        try:
            _in_diffusers_words({f"{module}.{half}": weights[f"{module}.{half}"] for half in _KOHYA_HALVES}, targets)
        except Exception:
            return key
    return next(iter(weights))


def _split_kohya(stored: Stored) -> tuple[dict[str, Tensor], dict[str, float]]:
    """Matrices by key and alphas by module. Every module must be whole: diffusers' conversion counts on it."""
    weights: dict[str, Tensor] = {}
    alphas: dict[str, float] = {}
    for key, tensor in stored.tensors.items():
        match = _KOHYA.fullmatch(key)
        if match is None:
            raise _unknown(stored, key)
        if match[2] != "alpha":
            weights[key] = tensor
        elif tensor.numel() == 1:
            alphas[match[1]] = float(tensor)
        else:
            raise AdapterError(f"{stored.name}: {key}: must be one number, has shape {list(tensor.shape)}")
    for module in dict.fromkeys([*alphas, *(key.split(".")[0] for key in weights)]):
        for half in _KOHYA_HALVES:
            if f"{module}.{half}" not in weights:
                raise AdapterError(f"{stored.name}: {module}.{half}: missing")
    return weights, alphas


def _with_origins(
    weights: Mapping[str, Tensor], converted: Mapping[str, Tensor], lost: Callable[[str], AdapterError]
) -> Iterable[tuple[str, str, Tensor]]:
    """Converted name, the file's own key and tensor: conversion renames the tensors and does not copy them.

    Raises what `lost` says of the key of a tensor that did not arrive.
    """
    origins = {id(tensor): key for key, tensor in weights.items()}
    arrived = {id(tensor) for tensor in converted.values()}
    for key, tensor in weights.items():
        if id(tensor) not in arrived:
            raise lost(key)
    return [(name, origins[id(tensor)], tensor) for name, tensor in converted.items()]


def _layer(name: str, targets: Targets) -> str | None:
    """The model's name of a layer: transformers' text encoders have lost, over the years, the first part of theirs."""
    network, _, inside = name.partition(".")
    candidates = (name, f"{network}.{inside.removeprefix('text_model.')}", f"{network}.text_model.{inside}")
    return next((candidate for candidate in candidates if candidate in targets.shapes), None)


def _unknown(stored: Stored, key: str) -> AdapterError:
    return AdapterError(f"{stored.name}: {_short(key)}: not a key of any layout that is read (diffusers, PEFT, kohya)")


def _no_layer(stored: Stored, key: str) -> AdapterError:
    return AdapterError(
        f"{stored.name}: {_short(key)}: the model has no such layer; it was made for another base model"
    )


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."
