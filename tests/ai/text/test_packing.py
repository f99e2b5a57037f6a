"""Layers packed for the CPU's kernels: the same numbers, and no more memory than is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from ai.gauge import tensors_bytes
from ai.text import model as text_model
from ai.text.cards import read_text_card
from ai.text.model import expected_text_bytes, load_text_model
from ai.text.packing import PackedLinear, can_pack, pack, packed_bytes
from tests.ai.text import made

CPU = torch.device("cpu")

pytestmark = pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="this torch has no oneDNN")


class Doubling(nn.Linear):
    """Does something of its own."""

    def forward(self, *given: torch.Tensor) -> torch.Tensor:
        """Twice."""
        return 2 * super().forward(*given)


def conv1d(out: int, width: int) -> Conv1D:
    """GPT-2's layer, with a bias that is not nothing."""
    layer = Conv1D(out, width)
    nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(48, 30), nn.Linear(48, 30, bias=False), conv1d(30, 48), Doubling(48, 30)],
    ids=["bias", "none", "conv1d", "derived"],
)
@pytest.mark.parametrize("shape", [(1, 48), (8, 48), (3, 5, 48)], ids=str)
def test_a_packed_layer_answers_as_the_layer_did(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Whatever kind it is of, for as many rows as there are; one that derives from a kind stays what it is."""
    inner = nn.Sequential(layer)
    network = nn.Sequential(inner)
    given = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        before = network(given)
        pack(network)
        torch.testing.assert_close(network(given), before, atol=1e-5, rtol=1e-5)
    assert isinstance(inner[0], Doubling if isinstance(layer, Doubling) else PackedLinear)


def test_only_float32_on_a_cpu_is_packed() -> None:
    """Nothing of another device or format."""
    assert not can_pack(torch.device("cuda"), torch.float32)
    assert not can_pack(CPU, torch.bfloat16)


@pytest.mark.parametrize("kind", made.KINDS)
def test_a_packed_model_takes_what_was_expected(tmp_path: Path, kind: str) -> None:
    """Its layers' weights once, and those that its embeddings are, twice."""
    card = read_text_card("words", str(made.make(tmp_path, kind)))
    loaded = load_text_model(card, made.CPU)
    network = loaded._network
    assert packed_bytes(network) > 0
    assert not any(type(layer) in (nn.Linear, Conv1D) for layer in network.modules())
    left = tensors_bytes((*network.parameters(), *network.buffers()))
    assert loaded.weight_bytes == left + packed_bytes(network)
    assert loaded.weight_bytes == pytest.approx(expected_text_bytes(card, made.CPU), rel=0.02)


def test_a_model_that_asks_its_layers_for_their_weights_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Packed layers have none to show."""

    def with_curiosity(network: Any) -> None:
        pack(network)
        network.register_forward_pre_hook(lambda *_: network.lm_head.weight)

    monkeypatch.setattr(text_model, "pack", with_curiosity)
    loaded = load_text_model(read_text_card("words", str(made.make(tmp_path))), made.CPU)
    assert packed_bytes(loaded._network) == 0
