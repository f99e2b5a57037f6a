"""Requests with adapters in the loop: who shares a step, who fails, and that everyone's picture is the one made alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from ai.cards import ModelCard
from ai.engine import Engine
from ai.families import load
from ai.families.family import Model
from ai.types import AdapterError, AdapterUse, EngineSettings, Failed, Finished, GenerationRequest
from ai.work import worn_together
from tests.ai.adapters.made import LAYOUTS, make, save_diffusers
from tests.ai.drive import Bench, a_request, pixels
from tests.ai.fakes import FakeModel

CPU = EngineSettings(device="cpu")
NEON, CHALK = AdapterUse("neon", 0.8), AdapterUse("chalk", -0.5)


def a_bench(model: FakeModel) -> Bench:
    """With three names of adapters, one of which cannot be loaded."""
    adapters = {name: Path(name) for name in ("neon", "chalk", "torn")}
    return Bench(model.load, cards=[ModelCard(name="tiny", source="tiny", adapters=adapters)])


def test_whatever_they_wear_they_share_a_step() -> None:
    """Requests with other adapters, other scales, several and none step together, and each file is read once."""
    model = FakeModel()
    a_bench(model).paint(
        a_request("a", adapters=(CHALK, NEON)),
        a_request("b", adapters=(NEON, CHALK, AdapterUse("torn", 0.0))),
        a_request("c", adapters=(NEON,)),
        a_request("d"),
    )
    assert model.batches == [8] * 4
    assert model.adapters.reads == ["chalk", "neon"]


def test_what_adds_nothing_is_no_adapter() -> None:
    """A scale of 0, also as a sum, is not even read."""
    assert worn_together([AdapterUse("a", 0.0)]) == ()
    assert worn_together([AdapterUse("a", 0.5), NEON, AdapterUse("a", -0.5)]) == (NEON,)
    assert worn_together([NEON, AdapterUse("a"), NEON]) == (AdapterUse("a"), AdapterUse("neon", 1.6))
    model = FakeModel()
    a_bench(model).paint(a_request("a", adapters=(AdapterUse("torn", 0.0),)), a_request("b"))
    assert model.batches == [4] * 4
    assert model.adapters.reads == []


def test_an_adapter_that_fails_fails_its_own_requests() -> None:
    """With the adapter's error; whoever does not use it is painted as if alone."""
    bench = a_bench(FakeModel())
    bench.paint(
        a_request("bad", adapters=(NEON, AdapterUse("torn")), num_images=2),
        a_request("good", adapters=(NEON,)),
        a_request("plain"),
    )
    assert isinstance(bench.failed("bad").error, AdapterError)
    assert str(bench.failed("bad").error) == "adapter torn: not a sound safetensors file"
    assert len(bench.of(Failed)) == 1
    for request in (a_request("plain"), a_request("good", adapters=(NEON,))):
        alone = a_bench(FakeModel())
        alone.paint(request)
        assert bench.finished(request.request_id).pictures == alone.finished(request.request_id).pictures
    assert bench.finished("plain").pictures != bench.finished("good").pictures


def test_adapters_that_cannot_be_meant() -> None:
    """A name that the card has not, and a scale that is no number, fail at once, without a step."""
    model = FakeModel()
    bench = a_bench(model)
    bench.paint(a_request("a", adapters=(AdapterUse("nobody"),)))
    assert str(bench.failed("a").error) == "adapters: tiny has no 'nobody'"
    bench.paint(a_request("b", adapters=(AdapterUse("neon", float("nan")),)))
    assert str(bench.failed("b").error) == "adapters: the scale of neon must be a finite number, is nan"
    assert model.batches == []


@pytest.fixture(scope="module")
def card(epsilon_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> ModelCard:
    """The tiny model with an adapter in each layout, each of another content, and one for another model."""
    folder = tmp_path_factory.mktemp("adapters")
    paths = {name: save(make(seed=n, rank=2 + n), folder / name) for n, (name, save) in enumerate(LAYOUTS.items())}
    (folder / "torn.safetensors").write_bytes(b"no adapter")
    paths["torn"] = folder / "torn.safetensors"
    paths["unet"] = save_diffusers(
        make([layer for layer in make().matrices if layer.startswith("unet.")]), folder / "u"
    )
    return ModelCard(name="tiny", source=str(epsilon_folder), adapters=paths)


@pytest.fixture(scope="module")
def model(card: ModelCard) -> Model:
    """Loaded once, and used by every bench: what earlier requests wore must not show."""
    return load(card, replace(CPU, adapter_slots=2))


def paint(card: ModelCard, model: Model, *requests: GenerationRequest) -> Mapping[str, Finished]:
    """What becomes of requests that are painted together."""
    bench = Bench(lambda *_: model, cards=[card])
    bench.paint(*requests)
    return {request.request_id: bench.finished(request.request_id) for request in requests}


def test_with_and_without_adapters_in_one_engine(card: ModelCard, model: Model, models: Mapping[str, Model]) -> None:
    """Each picture of a mixed crowd is the one of its request alone; those without adapters are a plain model's."""
    wishes: list[tuple[AdapterUse, ...]] = [
        (),
        (AdapterUse("kohya"),),
        (AdapterUse("peft", 0.7), AdapterUse("diffusers", -0.4)),
        (AdapterUse("peft"),),
        (AdapterUse("unet", 1.5),),
        (AdapterUse("kohya", 0.3),),
        (),
        (AdapterUse("kohya"),),
    ]
    crowd = [
        a_request(str(n), adapters=uses, seed=n, num_inference_steps=2 + n % 3, guidance_scale=1.0 + 2 * (n % 2))
        for n, uses in enumerate(wishes)
    ]
    together = paint(card, model, *crowd)
    for request in crowd:
        alone = paint(card, model, request)[request.request_id]
        (one,), (other,) = alone.pictures, together[request.request_id].pictures
        assert np.abs(pixels(one) - pixels(other)).max() <= 1, request.request_id
        (plain,) = paint(card, models["epsilon"], replace(request, adapters=()))[request.request_id].pictures
        assert (np.abs(pixels(plain) - pixels(other)).max() <= 1) == (not request.adapters), request.request_id


def test_an_adapter_that_joins_while_others_step(card: ModelCard, model: Model) -> None:
    """Loading one between two steps of others, and refusing one, leaves their pictures as they are."""
    long = a_request("long", num_inference_steps=8, adapters=(AdapterUse("kohya"),))
    alone = paint(card, model, long)["long"]
    bench = Bench(lambda *_: model, cards=[card])

    def join(events: object) -> None:
        for n, name in {3: "torn", 4: "peft", 5: "diffusers"}.items():
            if len(bench.deliveries) == n:
                bench.engine.submit(a_request(name, adapters=(AdapterUse(name),), num_inference_steps=2))

    bench.on_deliver = join
    bench.paint(long)
    (one,), (other,) = bench.finished("long").pictures, alone.pictures
    assert np.abs(pixels(one) - pixels(other)).max() <= 1
    assert str(bench.failed("torn").error).startswith("adapter torn: torn.safetensors: not a sound safetensors file")
    bench.finished("peft"), bench.finished("diffusers")


def test_engines_are_made_without_torch(card: ModelCard) -> None:
    """Cards with adapters are plain data."""
    engine = Engine([card], CPU, lambda: None, lambda events: None)
    assert engine.numbers().steps == 0
    assert isinstance(hash(card), int)
    assert not torch.is_inference_mode_enabled()
