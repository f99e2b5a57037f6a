"""How strongly an adapter was trained to act: alpha, and a PEFT configuration's exceptions to it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ai.types import AdapterError

PEFT_ALPHA = 8.0  # PEFT's own default, where a configuration names none
# PEFT starts some adapters by taking their first value out of the base weights; they fit no base but that changed one.
_HARMLESS_STARTS = (None, True, False, "true", "false", "gaussian", "eva", "orthogonal")
_LITERAL = re.compile(r"\^?(?:[\w.-]|\\\.)+\$?")


@dataclass(frozen=True, slots=True)
class Scaling:
    """`alpha` None means: as large as the rank, so that the scale is 1. `exceptions` are alphas by the end of a layer's name."""

    alpha: float | None = None
    exceptions: Mapping[str, float] = field(default_factory=dict)
    rank_stabilised: bool = False

    def of(self, layer: str, rank: int) -> float:
        """The factor before B·A: alpha / rank, or alpha / √rank (rsLoRA, https://arxiv.org/abs/2312.03732)."""
        named = (alpha for end, alpha in self.exceptions.items() if layer == end or layer.endswith(f".{end}"))
        alpha = next(named, self.alpha)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.rank_stabilised else rank)


def read_scaling(config: Mapping[str, Any], where: str) -> Scaling:
    """What a PEFT configuration says of an adapter's strength. Raises AdapterError for one that is no plain LoRA."""
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise AdapterError(f"{where}: peft_type: this is {str(kind)[:40]!r}; only plain LoRA is read")
    if config.get("use_dora"):
        raise AdapterError(f"{where}: use_dora: this is DoRA; only plain LoRA is read")
    start = config.get("init_lora_weights")
    if start not in _HARMLESS_STARTS:
        raise AdapterError(f"{where}: init_lora_weights: {str(start)[:40]!r} changes the base model; convert it first")
    pattern = config.get("alpha_pattern") or {}
    if not isinstance(pattern, dict):
        raise AdapterError(f"{where}: alpha_pattern: must be an object")
    exceptions = {_plain(end, where): _number(alpha, f"{where}: alpha_pattern") for end, alpha in pattern.items()}
    alpha = _number(config.get("lora_alpha", PEFT_ALPHA), f"{where}: lora_alpha")
    return Scaling(alpha, exceptions, bool(config.get("use_rslora")))


def _number(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise AdapterError(f"{where}: must be a finite number, is {str(value)[:40]!r}")
    return float(value)


def _plain(end: str, where: str) -> str:
    """A pattern as the end of a name. PEFT takes any regular expression; one from a file could take for ever, so only
    those are read that say a name."""
    if len(end) > 200 or not _LITERAL.fullmatch(end):
        raise AdapterError(f"{where}: alpha_pattern: {end[:60]!r} is not a layer's name")
    return end.removeprefix("^").removesuffix("$").replace("\\.", ".").removeprefix("text_model.")
