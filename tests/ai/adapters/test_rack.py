"""Which adapters are in memory: loading, keeping, letting go, failing."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import inject_adapter_in_model

from ai.adapters.rack import AdapterRack
from ai.device import Place
from ai.types import AdapterError, AdapterUse, EngineSettings
from tests.ai.adapters.made import make, save_kohya
from tests.ai.tiny import build_tokenizer, networks

CPU = Place(torch.device("cpu"), torch.float32)
QUERY = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
KEY = QUERY.replace("to_q", "to_k")
TEXT = "text_encoder.encoder.layers.0.mlp.fc1"
NAMES = ("a", "b", "c", "d", "e")


@pytest.fixture
def paths(tmp_path: Path) -> Mapping[str, Path]:
    """Five adapters, the last of the text encoder alone, and one that is damaged."""
    layers = {name: [QUERY, KEY] if name in "ab" else [TEXT] if name == "e" else [QUERY] for name in NAMES}
    good = {
        name: save_kohya(make(layers[name], seed=n, alpha=n + 1), tmp_path / f"{name}.x")
        for n, name in enumerate(NAMES)
    }
    bad = tmp_path / "bad.safetensors"
    bad.write_bytes(b"x" * good["a"].stat().st_size)
    return {**good, "bad": bad}


@pytest.fixture(autouse=True)
def _as_in_the_engine() -> Iterator[None]:
    with torch.inference_mode():
        yield


class Worn:
    """A rack of the tiny networks, and what its layers do."""

    def __init__(self, paths: Mapping[str, Path], resident: int = 3) -> None:
        with torch.inference_mode(mode=False):
            torch.manual_seed(20)
            pipeline = networks(build_tokenizer())
        self.networks = {"unet": pipeline.unet, "text_encoder": pipeline.text_encoder}
        self.rack = AdapterRack(self.networks, CPU, paths, EngineSettings(device="cpu", resident_adapters=resident))
        self.plain = self.act(QUERY), self.act(KEY)

    def act(self, target: str) -> torch.Tensor:
        """What one layer makes of ones."""
        network, _, layer = target.partition(".")
        module = self.networks[network].get_submodule(layer)
        output: torch.Tensor = module(torch.ones(1, module.in_features))
        return output

    def wear(self, *uses: str | tuple[str, float]) -> torch.Tensor:
        """Activate them; what they add to the query layer."""
        self.rack.activate([AdapterUse(use) if isinstance(use, str) else AdapterUse(*use) for use in uses])
        return self.act(QUERY) - self.plain[0]

    @property
    def tuned(self) -> int:
        """How many adapter matrices are in the networks."""
        return sum(".lora_" in name for network in self.networks.values() for name in network.state_dict())


def test_nothing_is_touched_before_the_first(paths: Mapping[str, Path]) -> None:
    """Networks that never wear an adapter hold no layer of PEFT's."""
    worn = Worn(paths)
    worn.rack.activate([])
    assert worn.tuned == 0
    assert worn.rack.resident == ()
    assert worn.rack.worn_by("unet") == ()


def test_only_what_is_active_acts(paths: Mapping[str, Path]) -> None:
    """Each adapter alone, at its scale; several add up; none is none, to the bit."""
    worn = Worn(paths)
    a, b = worn.wear("a"), worn.wear("b")
    assert a.abs().max() > 0.01
    assert torch.allclose(worn.wear(("a", -2.0)), -2 * a, atol=1e-6)
    assert torch.allclose(worn.wear(("a", 0.5), ("b", 2.0)), 0.5 * a + 2 * b, atol=1e-6)
    assert torch.equal(worn.wear(), torch.zeros_like(a))
    assert torch.equal(worn.act(KEY), worn.plain[1])


def test_a_layer_that_only_one_adapter_changes(paths: Mapping[str, Path]) -> None:
    """An adapter leaves alone what it does not name, whatever was active there before."""
    worn = Worn(paths)
    worn.wear("a")
    assert not torch.equal(worn.act(KEY), worn.plain[1])
    worn.wear("c")
    assert torch.equal(worn.act(KEY), worn.plain[1])


def test_the_least_recently_used_goes_first(paths: Mapping[str, Path]) -> None:
    """Memory holds no more adapters than the setting says; one that went comes back as it was."""
    worn = Worn(paths, resident=2)
    first = worn.wear("a")
    worn.wear("b")
    assert worn.tuned == 8
    worn.wear("a")
    worn.wear("c")
    assert worn.rack.resident == ("a", "c")
    assert worn.tuned == 6
    worn.wear("d")
    assert worn.rack.resident == ("c", "d")
    assert worn.tuned == 4
    assert torch.equal(worn.wear("a"), first)


def test_letting_go_says_nothing_and_disturbs_nobody(paths: Mapping[str, Path]) -> None:
    """What is active stays active when another adapter is taken out."""
    worn = Worn(paths, resident=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            changes = [worn.wear(name) for name in NAMES]
            assert worn.rack.resident == ("e",)
    assert len({change.sum().item() for change in changes}) == 5


def test_one_request_may_use_more_than_fit(paths: Mapping[str, Path]) -> None:
    """All of its adapters act together; the next one's need lets them go."""
    worn = Worn(paths, resident=1)
    a, b, c = (worn.wear(name) for name in "abc")
    assert torch.allclose(worn.wear("a", "b", "c"), a + b + c, atol=1e-6)
    assert len(worn.rack.resident) == 3
    worn.wear("d")
    assert list(worn.rack.resident) == ["d"]


@pytest.mark.parametrize("uses", [("bad",), ("b", "bad"), ("bad", "b"), ("b", "c", "d", "nobody")])
def test_one_that_cannot_be_had_changes_nothing(uses: tuple[str, ...], paths: Mapping[str, Path]) -> None:
    """What was active before still acts, and no more is kept than otherwise."""
    worn = Worn(paths, resident=2)
    a = worn.wear("a")
    for _ in range(3):
        with pytest.raises(
            AdapterError, match=r"adapter (bad: bad.safetensors: not a sound|nobody: this model has none)"
        ):
            worn.wear(*uses)
        assert torch.equal(worn.act(QUERY) - worn.plain[0], a)
        assert len(worn.rack.resident) <= 2
        assert "a" in worn.rack.resident


def test_a_refused_file_is_read_again_when_it_has_changed(paths: Mapping[str, Path]) -> None:
    """Until then the same error comes without reading."""
    worn = Worn(paths)
    with pytest.raises(AdapterError):
        worn.wear("bad")
    before = paths["bad"].stat()
    paths["bad"].write_bytes(paths["a"].read_bytes())
    os.utime(paths["bad"], ns=(before.st_atime_ns, before.st_mtime_ns))  # as if it had not changed
    with pytest.raises(AdapterError, match="not a sound safetensors file"):
        worn.wear("bad")
    os.utime(paths["bad"], ns=(1, 1))
    assert torch.equal(worn.wear("bad"), worn.wear("a"))


def test_a_file_that_has_gone_is_tried_again_when_it_is_back(paths: Mapping[str, Path]) -> None:
    """Until then the error says that it is not there."""
    worn = Worn(paths)
    paths["a"].rename(paths["a"].with_suffix(".away"))
    for _ in range(2):
        with pytest.raises(AdapterError, match=r"adapter a: a.safetensors: cannot be read: No such file"):
            worn.wear("a")
    paths["a"].with_suffix(".away").rename(paths["a"])
    assert worn.wear("a").abs().max() > 0.01


def test_which_network_wears_what(paths: Mapping[str, Path]) -> None:
    """By content and scale, for each network those adapters alone that change it."""
    worn = Worn(paths)
    worn.wear(("a", 0.5), ("e", 2.0))
    assert [scale for _, scale in worn.rack.worn_by("unet")] == [0.5]
    assert [scale for _, scale in worn.rack.worn_by("text_encoder")] == [2.0]
    worn.wear("a")
    assert worn.rack.worn_by("text_encoder") == ()
    first = worn.rack.worn_by("unet")
    worn.wear("b")
    assert worn.rack.worn_by("unet")[0][0] != first[0][0]


def test_no_memory_for_one_leaves_nothing_of_it(paths: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy to the device that fails takes the adapter out again, and the next try may succeed."""
    worn = Worn(paths)
    a = worn.wear("a")

    def no_memory(self: AdapterRack, matrix: torch.Tensor) -> torch.nn.Parameter:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(AdapterRack, "_parameter", no_memory)
        with pytest.raises(torch.OutOfMemoryError):
            worn.wear("b")
    assert worn.tuned == 4
    assert torch.equal(worn.act(QUERY) - worn.plain[0], a)
    assert worn.wear("b").abs().max() > 0.01


def test_an_injection_that_breaks_off_leaves_nothing_of_it(
    paths: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Layers that were half made never act."""
    worn = Worn(paths)

    def break_off(*arguments: Any, **options: Any) -> None:
        inject_adapter_in_model(*arguments, **options)
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("ai.adapters.rack.inject_adapter_in_model", break_off)
        with pytest.raises(MemoryError):
            worn.wear("a")
    assert worn.tuned == 0
    assert torch.equal(worn.act(QUERY), worn.plain[0])
    assert worn.wear("a").abs().max() > 0.01
