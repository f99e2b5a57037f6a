"""Rows that wear different adapters in one forward pass, against PEFT's own mixed batches and against merged weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import get_peft_model

from ai.adapters.adapter import LowRank
from ai.adapters.residents import Resident, Residents, Worn
from ai.adapters.stacks import AdaptedConvolution, AdapterStacks
from ai.device import Place
from ai.lineup import Kept, line_up
from ai.types import AdapterUse, EngineSettings
from tests.ai.adapters.made import TEXT, UNET, Made, make, peft_config, save_kohya
from tests.ai.tiny import build_tokenizer, networks

pytestmark = pytest.mark.filterwarnings("ignore:Already found a `peft_config`:UserWarning")

CPU = Place(torch.device("cpu"), torch.float32)
TOLERANCE = 1e-5
QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
KEY = QUERY.replace("to_q", "to_k")
# Every layer there is, convolutions and one wider than a slot among them.
MADE = {
    "one": make(seed=1, rank=4, alpha=3.0),
    "two": make(seed=2, rank=11, alpha=5.5),
    "query": make([QUERY], seed=3, strength=0.5),
    "key": make([KEY], seed=4, strength=0.5),
}


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Their files."""
    folder = tmp_path_factory.mktemp("adapters")
    return {name: save_kohya(made, folder / name) for name, made in MADE.items()}


@pytest.fixture(autouse=True)
def _as_in_the_engine() -> Iterator[None]:
    with torch.inference_mode():
        yield


class Wardrobe:
    """The tiny networks, with slots, and plain copies of them."""

    def __init__(self, paths: Mapping[str, Path], slots: int = 64) -> None:
        with torch.inference_mode(mode=False), torch.no_grad():
            torch.manual_seed(20)
            pipeline = networks(build_tokenizer())
            self.plain: dict[str, Any] = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
            self.networks = {name: copy.deepcopy(network) for name, network in self.plain.items()}
        self.stacks = AdapterStacks(self.networks, CPU, EngineSettings(device="cpu", adapter_slots=slots))
        self.residents = Residents(paths, self.stacks)

    def worn(self, *uses: tuple[str, float]) -> Sequence[Worn]:
        """Adapters in their slots, held."""
        outfit = self.residents.wear([AdapterUse(*use) for use in uses], lambda outfit, error: None)
        assert outfit.ready
        return outfit.worn

    def act(self, *rows: Sequence[Worn], side: int = 8) -> torch.Tensor:
        """What the UNet predicts when its rows wear this: at their first step and, from what is kept, at their second."""
        lineup = self.stacks.line_up(rows)
        with self.stacks.wearing(lineup):
            first = act(self.networks["unet"], len(rows), side=side)
            assert torch.equal(act(self.networks["unet"], len(rows), side=side), first)
        return first


def act(unet: Any, rows: int, side: int = 8, **more: object) -> torch.Tensor:
    """A forward pass over other rows each, the same ones always."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn((rows, 4, side, side), generator=generator)
    text = torch.randn((rows, 7, 24), generator=generator)
    timesteps = torch.arange(rows) * 100 + 3
    output: torch.Tensor = unet(latents, timesteps, encoder_hidden_states=text, return_dict=False, **more)[0]
    return output


def merged(unet: Any, *uses: tuple[str, float]) -> Any:
    """A copy with W + scale · B·A for weights."""
    with torch.inference_mode(mode=False), torch.no_grad():
        changed = copy.deepcopy(unet)
        for name, scale in uses:
            made = MADE[name]
            for layer, (a, b) in made.of(UNET).items():
                weight = changed.get_submodule(layer).weight
                weight += (scale * made.alpha / len(a) * b.flatten(1) @ a.flatten(1)).view_as(weight)
    return changed


def by_peft(unet: Any, uses: Mapping[str, tuple[str, float]]) -> Any:
    """The network as PEFT adapts it, with an adapter for each use."""
    model: Any = None
    with torch.inference_mode(mode=False), torch.no_grad():
        for name, (which, scale) in uses.items():
            made: Made = MADE[which]
            config = peft_config(made, made.of(UNET))
            if model is None:
                model = get_peft_model(copy.deepcopy(unet), config, adapter_name=name)
            else:
                model.add_adapter(name, config)
            for layer, (a, b) in made.of(UNET).items():
                adapted: Any = model.get_base_model().get_submodule(layer)
                adapted.lora_A[name].weight.copy_(a)
                adapted.lora_B[name].weight.copy_(b)
                adapted.scaling[name] *= scale
    return model.eval()


def relative(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference, in units of the wanted output's standard deviation."""
    return float((found - wanted).abs().max() / wanted.std())


@pytest.mark.parametrize("side", [8, 16])
def test_it_equals_peft_s_mixed_batches(paths: Mapping[str, Path], side: int) -> None:
    """Rows with one adapter each, at scales of their own, and rows with none, as PEFT does with `adapter_names`; on small
    maps and on large ones."""
    uses = {"v": ("one", 1.0), "w": ("two", -0.6), "x": ("one", 0.25), "y": ("query", 1.5)}
    names = ["w", "v", "__base__", "x", "y", "w", "v"]
    wardrobe = Wardrobe(paths)
    found = wardrobe.act(*(wardrobe.worn(uses[name]) if name in uses else () for name in names), side=side)
    wanted = act(by_peft(wardrobe.plain["unet"], uses), len(names), side, adapter_names=names)
    assert relative(found, wanted) < TOLERANCE
    assert relative(found, act(wardrobe.plain["unet"], len(names), side)) > 1000 * TOLERANCE


def test_it_equals_peft_with_several_adapters(paths: Mapping[str, Path]) -> None:
    """All of them on every row, as PEFT does after `set_adapter` with a list."""
    uses = {"v": ("one", 0.7), "w": ("two", -0.6), "x": ("query", 2.0)}
    wardrobe = Wardrobe(paths)
    found = wardrobe.act(*[wardrobe.worn(*uses.values())] * 3)
    adapted = by_peft(wardrobe.plain["unet"], uses)
    adapted.base_model.set_adapter(list(uses))
    assert relative(found, act(adapted, 3)) < TOLERANCE


def test_it_equals_merged_weights(paths: Mapping[str, Path]) -> None:
    """Each row of a mixed batch is the one that a network with the change written into its weights predicts."""
    wardrobe = Wardrobe(paths)
    crowd: list[Sequence[tuple[str, float]]] = [
        [("two", 1.0), ("one", -0.5)], [], [("one", 0.8)], [("query", 1.0), ("two", 0.3), ("key", -1.0)], [("key", 2.0)],
    ]  # fmt: skip
    found = wardrobe.act(*(wardrobe.worn(*uses) for uses in crowd))
    for row, uses in enumerate(crowd):
        wanted = act(merged(wardrobe.plain["unet"], *uses), len(crowd))
        assert relative(found[row], wanted[row]) < TOLERANCE, uses


def test_rows_that_wear_the_same_are_one_matrix(paths: Mapping[str, Path]) -> None:
    """Neighbours, as a picture's two rows are, and equal to merged weights all the same; they are gathered once for both."""
    wardrobe, name = Wardrobe(paths), "two"  # two slots
    rows = [wardrobe.worn((name, scale)) for scale in (1.0, 1.0, -0.4, -0.4, 0.7, 0.7)]
    found = wardrobe.act(*rows)
    for row, worn in enumerate(rows):
        wanted = act(merged(wardrobe.plain["unet"], (name, worn[0].scale)), len(rows))
        assert relative(found[row], wanted[row]) < TOLERANCE
    lineup = wardrobe.stacks.line_up(rows)
    with wardrobe.stacks.wearing(lineup):
        act(wardrobe.networks["unet"], len(rows))
    a, _ = lineup.kept.once((QUERY, 0), tuple)
    assert len(a) == 3


def test_without_room_to_keep_it_is_gathered_at_each_step(paths: Mapping[str, Path]) -> None:
    """And is the same to the bit."""
    wardrobe = Wardrobe(paths)
    rows = [wardrobe.worn(("one", 1.0)), wardrobe.worn(("two", 0.5))]
    wanted = wardrobe.act(*rows)
    lineup = replace(wardrobe.stacks.line_up(rows), kept=Kept(limit=0))
    with wardrobe.stacks.wearing(lineup):
        for _ in range(2):
            assert torch.equal(act(wardrobe.networks["unet"], len(rows)), wanted)
    assert list(lineup.kept.tensors()) == []


@pytest.mark.parametrize(
    "told",
    [
        {"padding": 1},
        {"padding": 2, "dilation": 2},
        {},
        {"padding": "same"},
        {"padding": 1, "stride": 2},
        {"padding": 3},
    ],
)
def test_convolutions_of_every_kind(told: Mapping[str, Any]) -> None:
    """Whatever their padding, steps and reach, those that cannot be made by shifting among them."""
    with torch.inference_mode(mode=False), torch.no_grad():
        torch.manual_seed(1)
        layer = torch.nn.Conv2d(5, 6, 3, **told)
    a, b, x = torch.randn(4, 5, 3, 3), torch.randn(6, 4, 1, 1), torch.randn(2, 5, 7, 7)
    adapter = Resident("it", (1,), frozenset({"layer"}))
    lineup = line_up([[Worn(adapter, 2.0)], []], CPU.device)
    plain = layer(x)
    adapted = AdaptedConvolution("layer", layer, lambda: lineup, CPU)
    adapted.write([1], LowRank(a, b, 0.5), 1)
    wanted = plain[0] + torch.nn.functional.conv2d(torch.nn.functional.conv2d(x[:1], a, **told), b)[0]
    found = layer(x)
    assert relative(found[0], wanted) < TOLERANCE
    assert torch.equal(found[1], plain[1])


def test_untouched_until_the_first_and_whenever_none_is_worn(paths: Mapping[str, Path]) -> None:
    """To the bit, and layers that no worn adapter changes are not even gathered for."""
    wardrobe = Wardrobe(paths)
    plain = act(wardrobe.plain["unet"], 2)
    assert wardrobe.stacks.total_bytes == 0
    assert wardrobe.stacks.line_up([(), ()]).bands == ()
    assert torch.equal(wardrobe.act((), ()), plain)
    worn = wardrobe.worn(("query", 1.0))
    assert not torch.equal(wardrobe.act(worn, ()), plain)
    assert torch.equal(wardrobe.act((), ()), plain)
    touched = [name for name, module in wardrobe.networks["unet"].named_modules() if "forward" in vars(module)]
    assert [f"unet.{name}" for name in touched] == [QUERY]


def test_a_slot_remembers_nothing(paths: Mapping[str, Path]) -> None:
    """Who comes into the slots of another changes no layer that only the other did."""
    wardrobe = Wardrobe(paths, slots=2)
    outfit = wardrobe.residents.wear([AdapterUse("two")], lambda *_: None)
    wardrobe.act(outfit.worn)
    outfit.release()
    rows = [wardrobe.worn(("query", 1.0)), wardrobe.worn(("key", 1.0))]  # each gathers in the other's layer too
    found = wardrobe.act(*rows)
    for row, name in enumerate(("query", "key")):
        assert relative(found[row], act(merged(wardrobe.plain["unet"], (name, 1.0)), 2)[row]) < TOLERANCE


def test_what_is_kept_goes_with_the_rows_it_was_kept_for(paths: Mapping[str, Path]) -> None:
    """A slot that is let go of and given to another adapter: whoever steps then wears the other one, in the same row
    of the same layer."""
    wardrobe = Wardrobe(paths, slots=1)
    for name in ("query", "one", "query"):
        outfit = wardrobe.residents.wear([AdapterUse(name)], lambda *_: None)
        assert [worn.resident.slots for worn in outfit.worn] == [(1,)]
        assert relative(wardrobe.act(outfit.worn), act(merged(wardrobe.plain["unet"], (name, 1.0)), 1)) < TOLERANCE
        outfit.release()


def test_memory_stays_flat(paths: Mapping[str, Path]) -> None:
    """It grows with the slots in use up to all there are, and not with the adapters that come and go."""
    wardrobe, sizes = Wardrobe(paths, slots=6), []
    for name in ("one", "two", "query", "key") * 3:
        outfit = wardrobe.residents.wear([AdapterUse(name), AdapterUse("one", 0.5)], lambda *_: None)
        assert outfit.ready
        wardrobe.act(outfit.worn)
        outfit.release()
        sizes.append(wardrobe.stacks.total_bytes)
    assert sizes[0] < sizes[3] == sizes[-1]
    assert len(wardrobe.stacks._layers[QUERY]._a) == 7, "six slots, and the zeros"


def test_the_text_encoder_wears_too(paths: Mapping[str, Path]) -> None:
    """Its rows are prompts."""
    wardrobe = Wardrobe(paths)
    tokens = torch.arange(6)[None].repeat(3, 1)
    lineup = wardrobe.stacks.line_up([wardrobe.worn(("one", 1.0)), (), wardrobe.worn(("two", 0.5))])
    with wardrobe.stacks.wearing(lineup):
        found = wardrobe.networks["text_encoder"](tokens)[0]
    plain = wardrobe.plain["text_encoder"](tokens)[0]
    assert relative(found[1], plain[1]) < TOLERANCE
    assert relative(found[0], plain[0]) > 1000 * TOLERANCE
    assert relative(found[0], found[2]) > 1000 * TOLERANCE
    assert any(name.startswith(TEXT) for name in MADE["one"].matrices)


def test_what_is_idle_gives_its_memory_back(paths: Mapping[str, Path]) -> None:
    """An adapter that is worn acts to the bit as before, one that went acts so again when it is back; a layer keeps its
    empty slot and those up to the last that is held."""
    wardrobe = Wardrobe(paths)
    outfits = {name: wardrobe.residents.wear([AdapterUse(name, 0.7)], lambda *told: None) for name in MADE}
    before = {name: wardrobe.act(outfit.worn, ()) for name, outfit in outfits.items()}
    slot = wardrobe.stacks.total_bytes // 9  # five slots are held, of the eight there are then beside the empty one
    for name in ("two", "query", "key"):
        outfits[name].release()
    wardrobe.residents.drop_idle()
    assert wardrobe.stacks.total_bytes == 2 * slot
    assert torch.equal(wardrobe.act(outfits["one"].worn, ()), before["one"])
    back = wardrobe.residents.wear([AdapterUse("two", 0.7)], lambda *told: None)
    assert wardrobe.stacks.total_bytes == 5 * slot
    assert torch.equal(wardrobe.act(back.worn, ()), before["two"])
    assert torch.equal(wardrobe.act(outfits["one"].worn, ()), before["one"])
    back.release()
    outfits["one"].release()
    wardrobe.residents.drop_idle()
    assert wardrobe.stacks.total_bytes == slot
    assert torch.equal(wardrobe.act((), ()), act(wardrobe.plain["unet"], 2))
