"""A text model in memory: loaded by transformers, from a folder of safetensors alone, and its two passes. Imports torch.

A prompt is read in a pass of its own; from then on the text is a row of a batch and takes a token in each pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import transformers
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache

from ai.adapters.residents import Slots
from ai.device import Place, find_place
from ai.gauge import tensors_bytes
from ai.pickles import PICKLES
from ai.text.cache import RowCache
from ai.text.cards import TextCard, shared_embeddings
from ai.text.packing import can_pack, pack, packed_bytes
from ai.types import AdapterError, EngineSettings, ModelLoadError

log = logging.getLogger(__name__)

T = TypeVar("T")

_PROBE = 4  # tokens, of which the last is read by way of a batch
_SAME = {
    torch.float32: 1e-3,
    torch.float16: 5e-2,
    torch.bfloat16: 3e-1,
}  # logits of the two ways differ by rounding alone


class NoSlots:
    """The adapters of a model that wears none, as the shelf keeps them."""

    count = 0
    total_bytes = 0

    def read(self, path: Path) -> Any:
        """Raises AdapterError."""
        raise AdapterError(f"{path}: a text model wears no adapters")

    def write(self, slots: Sequence[int], adapter: Any) -> None:
        """Nothing is ever read."""

    def shrink(self, count: int) -> None:
        """Nor kept."""


class TextModel:
    """One loaded model. Everything but loading happens on the engine's thread, in inference mode."""

    def __init__(self, network: Any, tokenizer: Any, place: Place, card: TextCard) -> None:
        self._network = network
        self._tokenizer = tokenizer
        self._backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self._place = place
        self.card = card
        self.adapters: Slots = NoSlots()
        self.weight_bytes = tensors_bytes((*network.parameters(), *network.buffers())) + packed_bytes(network)
        self.bytes_per_token = 0  # of a row's keys and values; known from the first prompt on
        self.ends = _ends(network, tokenizer)
        self._begin = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else next(iter(self.ends), None)

    def tokens_of(self, prompt: str) -> list[int]:
        """A prompt as the model reads it; one without any token begins where texts begin."""
        tokens: list[int] = self._tokenizer(prompt)["input_ids"]
        return tokens or ([] if self._begin is None else [self._begin])

    def text_of(self, tokens: Sequence[int]) -> str:
        """Tokens as text, without those that only mark its ends."""
        # Asked several times a token: the backend itself answers in a tenth of the time that transformers' words around it take.
        text: str = self._backend.decode(list(tokens), skip_special_tokens=True)
        return text

    def rows(self) -> RowCache:
        """Room for texts, empty."""
        return RowCache(self._place.device, self._place.dtype)

    def read(self, tokens: Sequence[int]) -> tuple[Tensor, Cache]:
        """A prompt's pass: the logits of what follows, [tokens known], and the prompt's keys and values."""
        cache = DynamicCache()
        answer = self._network(
            input_ids=torch.tensor([list(tokens)], device=self._place.device),
            position_ids=torch.arange(len(tokens), device=self._place.device)[None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        self.bytes_per_token = tensors_bytes(
            one for layer in cache.layers for one in (layer.keys, layer.values)
        ) // len(tokens)
        return answer.logits[0, -1], cache

    def step(self, tokens: Sequence[int], rows: RowCache) -> Tensor:
        """The next pass for rows whose latest tokens are these: their logits, [rows, tokens known]."""
        positions, mask = rows.open()
        answer = self._network(
            input_ids=torch.tensor(tokens, device=self._place.device)[:, None],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=rows.cache,
            use_cache=True,
        )
        logits: Tensor = answer.logits[:, -1]
        rows.close()
        return logits

    def check(self) -> None:
        """A text read at once and one read by way of a batch must be the same to the model. Raises ModelLoadError."""
        kind = type(self._network).__name__
        try:
            furthest = self._furthest()
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            raise ModelLoadError(f"{self.card.name}: {kind} cannot be run in a batch: {error}") from error
        if not furthest <= _SAME[self._place.dtype]:
            raise ModelLoadError(
                f"{self.card.name}: {kind} does not keep its past in keys and values that rows of a batch can share (logits "
                f"differ by {furthest:.2g})"
            )

    def _furthest(self) -> float:
        """How far the logits of the two ways differ, as a share of the largest."""
        known = self._network.get_input_embeddings().num_embeddings
        tokens = [token % known for token in (7, 3, 5, 1)][: min(_PROBE, self.card.context)]
        whole, _ = self.read(tokens)
        _, cache = self.read(tokens[:-1])
        rows = self.rows()
        rows.join(cache)
        rows.join(cache)
        apart = self.step([tokens[-1], tokens[0]], rows)[0]
        return (whole - apart).abs().max().item() / max(1.0, whole.abs().max().item())


def load_text_model(card: TextCard, settings: EngineSettings) -> TextModel:
    """Read a card's folder. Raises ModelLoadError."""
    place = find_place(settings)
    _check_files(Path(card.source))
    transformers.utils.logging.disable_progress_bar()
    tokenizer = _read(
        card,
        lambda folder: transformers.AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        ),
    )
    if can_pack(place.device, place.dtype):
        try:
            return _checked(_read(card, lambda folder: _network(folder, place)), tokenizer, place, card, packed=True)
        except (ModelLoadError, RuntimeError, AttributeError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            log.info("%s: once more, with its layers as they are: %s", card.name, error)
    return _checked(_read(card, lambda folder: _network(folder, place)), tokenizer, place, card)


def _checked(network: Any, tokenizer: Any, place: Place, card: TextCard, *, packed: bool = False) -> TextModel:
    if packed:
        pack(network)
    model = TextModel(network, tokenizer, place, card)
    model.check()
    return model


def _read(card: TextCard, read: Callable[[Path], T]) -> T:
    folder = Path(card.source)
    try:
        return read(folder)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelLoadError(f"{card.name}: {folder} cannot be read by transformers: {first}") from error


def _network(folder: Path, place: Place) -> Any:
    with torch.inference_mode(False):
        network = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=place.dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            attn_implementation="sdpa",
        )
        return network.to(place.device).eval().requires_grad_(False)


def expected_text_bytes(card: TextCard, settings: EngineSettings) -> int:
    """What the files say that it takes, in the settings' number format; 0 where they cannot tell."""
    from ai.families.weights import numbers_in

    place, folder = find_place(settings), Path(card.source)
    try:
        numbers = sum(numbers_in(file) for file in folder.glob("*.safetensors"))
        if can_pack(place.device, place.dtype):
            numbers += shared_embeddings(folder)
        return numbers * place.dtype.itemsize
    except (ModelLoadError, OSError, KeyError, TypeError, AttributeError):
        return 0


def _check_files(folder: Path) -> None:
    if not folder.is_dir():
        raise ModelLoadError(f"{folder}: no such folder")
    if not any(folder.glob("*.safetensors")):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
        why = f"; {pickles[0]} is a pickle, which may run code when it is loaded" if pickles else ""
        raise ModelLoadError(f"{folder}: holds no .safetensors{why}")


def _ends(network: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens after which nothing comes."""
    told = [network.generation_config.eos_token_id, network.config.eos_token_id, tokenizer.eos_token_id]
    found: set[int] = set()
    for one in told:
        found.update(one if isinstance(one, (list, tuple)) else [] if one is None else [one])
    return frozenset(found)
