"""Cards of text models: what is known of one before its weights are in memory. Imports no torch.

A text model is a folder in transformers' layout: config.json of a causal language model, *.safetensors, and its tokenizer. It
may hold a `card.toml`:

    description = "..."

    [defaults]          # what a request that does not say gets
    max_length = 100
    temperature = 1.0
    top_p = 1.0
    top_k = 50
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ai.requests import Json, TextRequest
from ai.types import ModelLoadError

MAX_STOPS = 8
MAX_STOP_CHARACTERS = 100  # of one; so much may be held back before it is told
MAX_TEMPERATURE = 10.0  # far above any use: there the model's own opinion hardly counts
MAX_TOP_K = 1000  # more of the likeliest tokens than matter; 0 is all
MAX_SEED = 2**63 - 1
CHARACTERS_A_TOKEN = (
    16  # a prompt of more characters a token than this is no text: refused before it is cut into tokens
)

_CAUSAL = ("ForCausalLM", "LMHeadModel")  # how transformers ends the names of these architectures
_CONTEXT = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_WIDTH = ("hidden_size", "n_embd", "d_model")
DEFAULT_CONTEXT = 2048  # tokens, where the configuration names no limit
_ENTRIES: Mapping[str, type] = {"description": str, "defaults": dict}


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDefaults:
    """Used where a request names no value: those of the prediction platforms that such models come from."""

    max_length: int = 100
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class TextCard:
    """`source` is a folder in transformers' layout; `context` how many tokens prompt and text may have together."""

    name: str
    source: str
    context: int = DEFAULT_CONTEXT
    defaults: TextDefaults = field(default_factory=TextDefaults)
    description: str = ""
    kind: str = ""  # the architecture, as config.json has it
    hardware: str = "auto"  # one of ai.cards.HARDWARE

    @property
    def model_type(self) -> str:
        """What it does, in the words of prediction platforms."""
        return "text-generation"

    @property
    def adapters(self) -> Mapping[str, Path]:
        """It has none."""
        return {}

    @property
    def input_schema(self) -> dict[str, dict[str, Json]]:
        """What a request may say: each name with its JSON Schema."""
        most, own = self.context - 1, self.defaults
        return {
            "prompt": {
                "type": "string",
                "default": "",
                "maxLength": self.context * CHARACTERS_A_TOKEN,
                "description": "What the text goes on from.",
            },
            "max_length": {
                "type": "integer",
                "minimum": 1,
                "maximum": most,
                "default": min(own.max_length, most),
                "description": "Tokens to be written at most.",
            },
            "temperature": {
                "type": "number",
                "minimum": 0,
                "maximum": MAX_TEMPERATURE,
                "default": own.temperature,
                "description": "0: always the likeliest token; 1: as the model was trained; more: bolder.",
            },
            "top_p": {
                "type": "number",
                "exclusiveMinimum": 0,
                "maximum": 1,
                "default": own.top_p,
                "description": "Only of the likeliest tokens that have this share of the probability together.",
            },
            "top_k": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_TOP_K,
                "default": own.top_k,
                "description": "Only of so many of the likeliest tokens; 0: of all.",
            },
            "stop": {
                "type": "array",
                "items": {"type": "string", "minLength": 1, "maxLength": MAX_STOP_CHARACTERS},
                "maxItems": MAX_STOPS,
                "default": [],
                "description": "The text ends before the first of these.",
            },
            "seed": {
                "type": "integer",
                "minimum": 0,
                "maximum": MAX_SEED,
                "description": "The same gives the same text. Left out: another each time.",
            },
        }

    @property
    def output_schema(self) -> dict[str, Json]:
        """What comes of it."""
        return {"type": "string"}

    def request(self, request_id: str, given: Mapping[str, Json], *, seed: int, priority: int) -> TextRequest:
        """The request for an input that was checked by `input_schema`, its defaults filled in; `seed` is for one without."""
        return TextRequest(
            request_id=request_id,
            model=self.name,
            prompt=given["prompt"],
            max_length=given["max_length"],
            temperature=float(given["temperature"]),
            top_p=float(given["top_p"]),
            top_k=given["top_k"],
            seed=given.get("seed", seed),
            stop=tuple(given["stop"]),
            priority=priority,
        )


def is_text_model(source: str) -> bool:
    """Whether a folder is a causal language model's, by its config.json."""
    return any(name.endswith(_CAUSAL) for name in _architectures(_config(Path(source))))


def read_text_card(name: str, source: str) -> TextCard:
    """The card of the model at `source`. Raises ModelLoadError."""
    folder = Path(source)
    config, path = _config(folder), folder / "card.toml"
    document = _read_document(path) if path.is_file() else {}
    context = _context(config)
    if context < 2:
        raise ModelLoadError(f"{folder / 'config.json'}: a context of {context} tokens has no room for a text")
    return TextCard(
        name=name,
        source=source,
        context=context,
        description=document.get("description", ""),
        defaults=_read_defaults(path, document.get("defaults", {})),
        kind=next(iter(_architectures(config)), ""),
    )


def shared_embeddings(folder: Path) -> int:
    """How many numbers the words' embeddings have, where the last layer uses them too; 0 where it does not, or nothing tells."""
    config = _config(folder)
    width = next((config[key] for key in _WIDTH if type(config.get(key)) is int), 0)
    known = config.get("vocab_size")
    return known * width if type(known) is int and config.get("tie_word_embeddings", True) is True else 0


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _architectures(config: Mapping[str, Any]) -> list[str]:
    found = config.get("architectures")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _context(config: Mapping[str, Any]) -> int:
    """Tokens; no more than each sees of those before it: a batch has one mask for all layers."""
    named: list[int] = [config[key] for key in _CONTEXT if type(config.get(key)) is int][:1] or [DEFAULT_CONTEXT]
    window = config.get("sliding_window")
    if type(window) is int and config.get("use_sliding_window", True):
        named.append(window)
    return min(named)


def _read_document(path: Path) -> dict[str, Any]:
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ModelLoadError(f"{path}: {error}") from error
    for key, value in document.items():
        if key not in _ENTRIES:
            raise ModelLoadError(f"{path}: {key}: no such entry; a text model's are {', '.join(_ENTRIES)}")
        if not isinstance(value, _ENTRIES[key]):
            raise ModelLoadError(f"{path}: {key}: must be {_ENTRIES[key].__name__}, is {value!r}")
    return document


def _read_defaults(path: Path, given: Mapping[str, object]) -> TextDefaults:
    base = TextDefaults()
    known = {entry.name: type(getattr(base, entry.name)) for entry in fields(TextDefaults)}
    limits = {
        "max_length": (1, 10**9),
        "temperature": (0, MAX_TEMPERATURE),
        "top_p": (1e-6, 1),
        "top_k": (0, MAX_TOP_K),
    }
    values: dict[str, int | float] = {}
    for key, value in given.items():
        if key not in known:
            raise ModelLoadError(f"{path}: defaults.{key}: no such entry; there are {', '.join(known)}")
        low, high = limits[key]
        whole = known[key] is int
        if type(value) not in ((int,) if whole else (int, float)) or not low <= value <= high:  # type: ignore[operator]
            raise ModelLoadError(
                f"{path}: defaults.{key}: must be {known[key].__name__}, {low:g} to {high:g}, is {value!r}"
            )
        values[key] = known[key](value)
    return replace(base, **values)  # type: ignore[arg-type]  # kinds were checked above
