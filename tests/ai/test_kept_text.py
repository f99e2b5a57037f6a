"""The keys and values of the prompts, made once for the rows that step together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ai.kept_text import KeptText, replace_forward
from ai.lineup import Kept
from tests.ai.tiny import build_tokenizer, networks

KEY = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k"


@pytest.fixture(autouse=True)
def _as_in_the_engine() -> Iterator[None]:
    with torch.inference_mode():
        yield


def a_unet() -> Any:
    """The tiny one, the same numbers each time."""
    with torch.inference_mode(mode=False), torch.no_grad():
        torch.manual_seed(20)
        return networks(build_tokenizer()).unet


def act(unet: Any, text: torch.Tensor, timestep: int) -> torch.Tensor:
    """A forward pass."""
    latents = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(timestep))
    output: torch.Tensor = unet(latents, torch.tensor([timestep] * 2), encoder_hidden_states=text, return_dict=False)[0]
    return output


def count_calls(layer: Any) -> list[torch.Tensor]:
    """What a layer is asked from now on."""
    asked: list[torch.Tensor] = []
    plain = layer.forward

    def forward(x: torch.Tensor) -> torch.Tensor:
        asked.append(x)
        output: torch.Tensor = plain(x)
        return output

    layer.forward = forward
    return asked


def test_it_is_the_same_to_the_bit_and_made_once() -> None:
    """At each step and for every text, also one that comes to rows that had another."""
    plain, unet = a_unet(), a_unet()
    asked = count_calls(unet.get_submodule(KEY))
    kept_text, kept = KeptText(unet), Kept()
    text, other = torch.randn(2, 7, 24), torch.randn(2, 7, 24)
    with kept_text.within(kept):
        for step in range(3):
            assert torch.equal(act(unet, text, step), act(plain, text, step))
        assert len(asked) == 1
        assert torch.equal(act(unet, other, 3), act(plain, other, 3))
    with kept_text.within(Kept()):  # those of other rows
        assert torch.equal(act(unet, text, 0), act(plain, text, 0))
    assert [one is text for one in asked] == [True, False, True]
    layers = [name for name, _ in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))]
    assert len(list(kept.tensors())) == len(layers)


def test_nothing_is_kept_outside() -> None:
    """Nor in a pass that keeps nothing."""
    plain, unet = a_unet(), a_unet()
    asked = count_calls(unet.get_submodule(KEY))
    KeptText(unet)
    text = torch.randn(2, 7, 24)
    for step in range(2):
        assert torch.equal(act(unet, text, step), act(plain, text, step))
    assert len(asked) == 2


def test_whoever_replaces_a_forward_later_stands_inside() -> None:
    """What is kept is what came of it in the end; a layer of which nothing is kept has it for its forward."""
    unet = a_unet()
    kept_text, kept = KeptText(unet), Kept()
    layer: Any = unet.get_submodule(KEY)
    until_now = replace_forward(layer, lambda x: until_now(x).add_(1))  # in place, as adapters add
    text = torch.randn(2, 7, 24)
    wanted = torch.nn.functional.linear(text, layer.weight, layer.bias) + 1
    with kept_text.within(kept):
        for _ in range(2):
            assert torch.equal(layer(text), wanted)
    query: Any = unet.get_submodule(KEY.replace("to_k", "to_q"))
    replaced = replace_forward(query, torch.zeros_like)
    assert query.forward is torch.zeros_like
    assert replaced.__self__ is query  # type: ignore[attr-defined]
