"""Models that come and go while others are painted with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ai.by_kind import load_by_kind
from ai.cards import ModelCard, runs_on
from ai.text.cards import TextCard
from ai.types import EngineSettings, Finished, ModelLoadError, ModelReady, ModelUnloaded
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel
from tests.ai.test_fleet import Hall

NEW = ModelCard(name="new", source="new")


def _bench() -> Bench:
    return Bench(lambda card, settings: FakeModel())


def test_a_model_that_was_added_is_painted_with() -> None:
    """From its letter on, beside what was there."""
    bench = _bench()
    bench.paint(a_request("too soon", model="new"))
    assert isinstance(bench.failed("too soon").error, ModelLoadError)
    bench.engine.add(NEW)
    bench.paint(a_request("a", model="new"), a_request("b"))
    assert {event.request_id for event in bench.of(Finished)} == {"a", "b"}
    assert {event.model for event in bench.of(ModelReady)} == {"new", "tiny"}


def test_a_removed_model_finishes_what_it_has_accepted() -> None:
    """Its samples step on in the batch, the waiting ones too; then it is unloaded, and no request can name it."""
    bench = _bench()
    bench.engine.add(NEW)
    steps = 0

    def remove_in_the_middle(events: object) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            bench.engine.remove("new")

    bench.on_deliver = remove_in_the_middle
    bench.paint(a_request("a", model="new"), a_request("b", model="new", width=128), a_request("c"))
    assert {event.request_id for event in bench.of(Finished)} == {"a", "b", "c"}
    bench.paint(a_request("late", model="new"))
    assert "does not exist" in str(bench.failed("late").error)
    assert [event.model for event in bench.of(ModelUnloaded)] == ["new"]
    assert bench.engine.numbers().models == ("tiny",)


def test_a_removed_model_that_nobody_uses_goes_at_once() -> None:
    """And takes its memory with it; one that was never there is none to remove."""
    bench = _bench()
    bench.engine.add(NEW)
    bench.engine.load("new")
    bench.engine.run()
    assert bench.engine.numbers().memory.models == 1000
    bench.engine.remove("new")
    bench.engine.remove("nobody")
    bench.engine.run()
    assert bench.engine.numbers().memory.models == 0


def test_a_removed_model_may_come_back() -> None:
    """Before it has gone, or after."""
    bench = _bench()
    for name in ("a", "b"):
        bench.engine.add(NEW)
        bench.paint(a_request(name, model="new"))
        bench.engine.remove("new")
        bench.engine.add(NEW)
        bench.paint(a_request(f"{name}2", model="new"))
        bench.engine.remove("new")
        bench.engine.run()
    assert len(bench.of(Finished)) == 4


def test_a_refiner_stays_with_its_model() -> None:
    """It goes with it, and not before its pictures were handed over."""
    refiner = ModelCard(name="new:refiner", source="refiner")
    bench = _bench()
    bench.engine.add(ModelCard(name="new", source="new", refiner=refiner, refiner_switch=0.5))
    bench.engine.submit(a_request("a", model="new", num_inference_steps=4))
    bench.engine.remove("new")
    bench.engine.run()
    assert len(bench.finished("a").pictures) == 1
    assert {event.model for event in bench.of(ModelUnloaded)} == {"new", "new:refiner"}


def test_a_fleet_paints_with_it_on_every_device() -> None:
    """Where its hardware allows; a removed one goes from all of them."""
    hall = Hall([FakeModel(), FakeModel()], max_batch=1)
    hall.fleet.add(NEW)
    for n in range(4):
        hall.fleet.submit(a_request(str(n), model="new"))
    hall.run()
    assert {index for index, name in hall.loads if name == "new"} == {0, 1}
    hall.fleet.remove("new")
    hall.run()
    assert hall.fleet.numbers().models == ()


def test_a_model_for_one_kind_of_device_stays_there() -> None:
    """Whatever else has nothing to do; what waits for it is not handed about."""
    hall = Hall([FakeModel(), FakeModel()], max_batch=1)
    hall.fleet._devices[1].name = "cuda:0"
    hall.fleet.add(ModelCard(name="new", source="new", hardware="cpu"))
    for n in range(4):
        hall.fleet.submit(a_request(str(n), model="new"))
    hall.run()
    assert hall.loads == [(0, "new")]
    assert len(hall.of(Finished)) == 4


@pytest.mark.parametrize(
    ("hardware", "device", "runs"),
    [
        ("auto", "cpu", True),
        ("cpu", "cpu", True),
        ("gpu", "cpu", False),
        ("gpu", "cuda:1", True),
        ("cpu", "cuda", False),
    ],
)
def test_what_hardware_means(hardware: str, device: str, runs: bool) -> None:
    """Of torch's names of devices."""
    assert runs_on(hardware, device) is runs


@pytest.mark.parametrize("kind", [ModelCard, TextCard])
def test_a_model_for_a_gpu_is_not_loaded_on_a_cpu(kind: Any) -> None:
    """The refusal says what does not fit, of one that writes too."""
    with pytest.raises(ModelLoadError, match=r"hardware: is for a gpu, and this device is cpu"):
        load_by_kind(kind(name="new", source="new", hardware="gpu"), EngineSettings(device="cpu"))


def test_who_uses_a_model_is_told_no_path_of_this_machine(tmp_path: Path) -> None:
    """Of a file that is missing its name in the model; the log has the whole."""
    (tmp_path / "link").symlink_to(tmp_path / "models" / "7f3a")
    places = [str(tmp_path / "link"), "", "stabilityai/sdxl"]
    for text, told in (
        (f"{tmp_path}/link/unet/config.json: no such file", "unet/config.json: no such file"),
        (f"{tmp_path}/models/7f3a/vae: gone; {tmp_path}/link: empty", "vae: gone; fox: empty"),
        (f"fox: {tmp_path}/link: there is no such file or folder", "fox: there is no such file or folder"),
        ("stabilityai/sdxl: the hub cannot be reached", "stabilityai/sdxl: the hub cannot be reached"),
    ):
        assert str(ModelLoadError(text).told_of("fox", places)) == told


def test_a_request_fails_without_the_model_s_path() -> None:
    """As the model's own state says it."""

    def gone(card: ModelCard, settings: EngineSettings) -> FakeModel:
        raise ModelLoadError(f"{card.source}/model_index.json: no such file")

    bench = Bench(gone)
    bench.engine.add(ModelCard(name="new", source="/srv/models/7f3a"))
    bench.paint(a_request("a", model="new"))
    assert str(bench.failed("a").error) == "model_index.json: no such file"
