"""Several devices with one queue: who gets what, and what becomes of a lost device's requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import torch

from ai.cards import ModelCard
from ai.engine import Engine
from ai.families.family import Conditioning
from ai.fleet import Fleet, total_numbers
from ai.histogram import NO_ROWS
from ai.lineup import Lineup
from ai.types import (
    Canceled,
    Deliver,
    DeviceLost,
    EngineEvent,
    EngineNumbers,
    EngineSettings,
    EngineStopped,
    Failed,
    Finished,
    MemoryNumbers,
    ModelLoadError,
    ModelLoading,
    ModelReady,
    ModelUnavailable,
    ModelUnloaded,
    Previewed,
    Started,
    Stepped,
)
from tests.ai.drive import AnyEvent, Bench, a_request
from tests.ai.fakes import FakeModel

WAIT = 60  # seconds after which a request is called lost; a run takes well under a second


@dataclass
class Frail(FakeModel):
    """Its device fails at the forward pass of number `falls`, and at all that come after."""

    falls: int = 1_000_000

    def predict(
        self, latents: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning, lineup: Lineup
    ) -> torch.Tensor:
        """As always, while the device lives."""
        if len(self.batches) >= self.falls:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        return super().predict(latents, timesteps, conditioning, lineup)


@dataclass
class Hall:
    """A fleet whose loops run when a test says so, one turn of calls after the other, and all that it delivered."""

    models: Sequence[FakeModel]
    names: Sequence[str] = ("tiny",)
    max_batch: int = 4
    events: list[EngineEvent] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)
    on_deliver: Callable[[Sequence[EngineEvent]], None] = lambda events: None
    loads: list[tuple[int, str]] = field(default_factory=list)
    broken: set[tuple[int, str]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.starts: list[int] = []
        self.engines: list[Engine] = []
        settings = [EngineSettings(device="cpu", max_batch=self.max_batch)] * len(self.models)
        self.fleet = Fleet(settings, self._make, self._deliver, self.deaths.append)

    def _make(self, settings: EngineSettings, deliver: Deliver) -> Engine:
        index = len(self.engines)

        def load(card: ModelCard, settings: EngineSettings) -> FakeModel:
            self.loads.append((index, card.name))
            if (index, card.name) in self.broken:
                raise ModelLoadError("nothing there")
            return self.models[index]

        engine = Engine(
            [ModelCard(name=name, source=name) for name in self.names],
            settings,
            lambda: self.starts.append(index),
            deliver,
            load_model=load,
            weigh=lambda card, settings: 0,
            clock=lambda: 0.0,
        )
        self.engines.append(engine)
        return engine

    def _deliver(self, events: Sequence[EngineEvent]) -> None:
        self.events += events
        self.on_deliver(events)

    def run(self) -> None:
        """Run the loops that were asked for, until none is."""
        while self.starts:
            self.engines[self.starts.pop(0)].run()

    def of(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        """The events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def ends(self) -> dict[str, list[EngineEvent]]:
        """Every request's terminal events."""
        ends: dict[str, list[EngineEvent]] = {}
        for event in self.events:
            if isinstance(event, (Finished, Failed, Canceled)):
                ends.setdefault(event.request_id, []).append(event)
        return ends

    def rgb(self, request_id: str) -> list[bytes]:
        """The pictures of a request, which must have ended once and well."""
        (end,) = self.ends()[request_id]
        assert isinstance(end, Finished), end
        return [picture.rgb for picture in end.pictures]


def alone(request_id: str, **changes: object) -> list[bytes]:
    """The pictures that a request gives with nobody else around."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request(request_id, **changes))
    return [picture.rgb for picture in bench.finished(request_id).pictures]


def test_requests_are_spread() -> None:
    """Engines that have the same share the work evenly, and all is painted as on one."""
    hall = Hall([FakeModel(), FakeModel()])
    hall.fleet.load("tiny")
    for n in range(6):
        hall.fleet.submit(a_request(str(n), seed=n))
    assert [engine.numbers().waiting for engine in hall.engines] == [3, 3]
    hall.run()
    for n in range(6):
        assert hall.rgb(str(n)) == alone(str(n), seed=n)


def test_a_loaded_model_draws_its_requests() -> None:
    """While there is room beside it; then another device loads it too."""
    hall = Hall([FakeModel(), FakeModel()], names=("tiny", "other"), max_batch=2)
    hall.fleet.submit(a_request("first", model="other"))
    hall.run()
    where = hall.loads[0][0]
    hall.fleet.submit(a_request("a", model="other"))
    hall.fleet.submit(a_request("b", model="other"))
    assert hall.engines[where].numbers().waiting == 2
    hall.fleet.submit(a_request("c", model="other"))
    assert hall.engines[1 - where].numbers().waiting == 1
    hall.run()
    assert len(hall.of(Finished)) == 4


def test_a_model_that_failed_on_one_device_is_asked_for_on_another() -> None:
    """And is as ready as it is where it is readiest."""
    hall = Hall([FakeModel(), FakeModel()], broken={(0, "tiny")})
    hall.fleet.load("tiny")
    hall.run()
    kinds = [type(event) for event in hall.events]
    assert kinds.index(ModelReady) > kinds.index(ModelLoading)
    for n in range(6):
        hall.fleet.submit(a_request(str(n)))
    hall.run()
    assert len(hall.of(Finished)) == 6
    unavailable = hall.of(ModelUnavailable)
    assert len(unavailable) <= 1, "told at most before the other device had it"


def test_what_waits_at_one_is_done_by_another() -> None:
    """A device with nothing left to do takes requests that another has not begun."""
    slow, quick = FakeModel(), FakeModel()
    hall = Hall([slow, quick], max_batch=1)
    for n in range(8):
        hall.fleet.submit(a_request(str(n), seed=n, num_inference_steps=2))
    hall.starts.remove(0)  # the first device's thread does not come to it yet
    hall.run()
    assert len(hall.of(Finished)) == 4
    hall.starts.append(0)
    hall.run()
    assert {request_id: len(ends) for request_id, ends in hall.ends().items()} == {str(n): 1 for n in range(8)}
    assert len(quick.decodes) > 4
    for n in range(8):
        assert hall.rgb(str(n)) == alone(str(n), seed=n, num_inference_steps=2)


@pytest.mark.parametrize("falls", [0, 1, 3, 5])
def test_a_lost_device_hands_its_requests_over(falls: int) -> None:
    """Whenever it dies, each request ends once, with the picture it would have had; nothing is told twice."""
    hall = Hall([Frail(falls=falls), FakeModel()])
    hall.fleet.load("tiny")
    for n in range(5):
        hall.fleet.submit(a_request(str(n), seed=n, num_images=2, num_inference_steps=3, preview_every=1))
    hall.run()
    assert hall.deaths == []
    for n in range(5):
        assert hall.rgb(str(n)) == alone(str(n), seed=n, num_images=2, num_inference_steps=3)
        fractions = [event.fraction for event in hall.of(Stepped) if event.request_id == str(n)]
        assert fractions == sorted(set(fractions))
        assert sum(event.request_id == str(n) for event in hall.of(Started)) == 1
        previews = [(event.image_index, event.step) for event in hall.of(Previewed) if event.request_id == str(n)]
        assert previews == sorted(set(previews), key=previews.index)
    assert "illegal memory access" in hall.fleet.numbers().lost
    assert hall.fleet.numbers().devices[1].lost == ""


def test_new_requests_go_round_a_lost_device() -> None:
    """It takes no more."""
    hall = Hall([Frail(falls=0), FakeModel()])
    hall.fleet.submit(a_request("a"))
    hall.run()
    for n in range(4):
        hall.fleet.submit(a_request(str(n)))
    hall.run()
    assert len(hall.of(Finished)) == 5
    with pytest.raises(EngineStopped, match="illegal memory access"):
        hall.engines[0].submit(a_request("direct"))


def test_the_last_device() -> None:
    """With it, what is there fails with the reason, once; whoever comes later is told at once, and the death is told."""
    hall = Hall([Frail(falls=1), Frail(falls=2)])
    for n in range(4):
        hall.fleet.submit(a_request(str(n)))
    hall.run()
    assert {len(ends) for ends in hall.ends().values()} == {1}
    errors = [event.error for event in hall.of(Failed)]
    assert len(errors) == 4
    assert all(isinstance(error, DeviceLost) for error in errors)
    assert len(hall.deaths) == 1
    with pytest.raises(EngineStopped, match="illegal memory access"):
        hall.fleet.submit(a_request("late"))


def test_a_lost_device_takes_its_models_along() -> None:
    """A model that was nowhere else is in memory no more."""
    hall = Hall([Frail(falls=2), FakeModel()], names=("tiny", "other"), max_batch=1)
    hall.fleet.submit(a_request("a", model="other", num_inference_steps=2))
    hall.run()
    assert hall.loads == [(0, "other")]
    hall.fleet.submit(a_request("b", model="other"))
    hall.run()
    assert [event.model for event in hall.of(ModelUnloaded)] == ["other"]
    assert hall.loads == [(0, "other"), (1, "other")]
    assert hall.rgb("b") == alone("b")


def test_a_cancel_on_the_way_between_devices() -> None:
    """A request that is cancelled while it is with nobody ends cancelled, and is painted by nobody."""
    hall = Hall([Frail(falls=2), FakeModel()])

    def cancel(events: Sequence[EngineEvent]) -> None:
        if hall.engines[0].numbers().lost:
            hall.on_deliver = lambda events: None
            hall.fleet.cancel("a")

    hall.fleet.submit(a_request("a"))
    hall.on_deliver = cancel
    hall.run()
    ((end,),) = hall.ends().values()
    assert isinstance(end, Canceled)


def test_cancel() -> None:
    """Cancels reach the engine that has the request; unknown ones nobody."""
    hall = Hall([FakeModel(), FakeModel()])
    hall.fleet.submit(a_request("a"))
    hall.fleet.submit(a_request("b"))
    hall.fleet.cancel("b")
    hall.fleet.cancel("nobody")
    hall.run()
    assert isinstance(hall.ends()["b"][0], Canceled)
    assert isinstance(hall.ends()["a"][0], Finished)


def test_stop() -> None:
    """All that is anywhere is cancelled once."""
    hall = Hall([FakeModel(), FakeModel()], max_batch=1)
    for n in range(4):
        hall.fleet.submit(a_request(str(n)))
    hall.fleet.stop()
    hall.run()
    assert {type(end) for ends in hall.ends().values() for end in ends} == {Canceled}
    assert len(hall.ends()) == 4
    with pytest.raises(EngineStopped):
        hall.fleet.submit(a_request("late"))


def test_same_id_twice() -> None:
    """An id that is with any of the engines is refused; once it has ended it may come again."""
    hall = Hall([FakeModel(), FakeModel()])
    hall.fleet.submit(a_request("a"))
    with pytest.raises(ValueError, match="request_id: 'a'"):
        hall.fleet.submit(a_request("a"))
    hall.run()
    hall.fleet.submit(a_request("a"))
    hall.run()
    assert len(hall.ends()["a"]) == 2


def test_a_device_that_is_not_there() -> None:
    """It is lost from the start; the others do its work."""
    engines: list[Engine] = []
    events: list[EngineEvent] = []

    def make(settings: EngineSettings, deliver: Deliver) -> Engine:
        engine = Engine(
            [ModelCard(name="tiny", source="tiny")], settings, lambda: starts.append(engine), deliver,
            load_model=FakeModel().load, weigh=lambda card, settings: 0,
        )  # fmt: skip
        engines.append(engine)
        return engine

    starts: list[Engine] = []
    fleet = Fleet([EngineSettings(device="cuda:77"), EngineSettings(device="cpu")], make, events.extend)
    for n in range(4):
        fleet.submit(a_request(str(n)))
    while starts:
        starts.pop(0).run()
    assert len([event for event in events if isinstance(event, Finished)]) == 4
    assert "cuda:77" in fleet.numbers().lost


def test_numbers_are_added_up() -> None:
    """Counts, memory and histograms; each device's own stay."""
    one = EngineNumbers(
        running=1, parked=2, steps=5, step_seconds=0.5, device="cuda:0", models=("a",), gpu_utilisation=0.5,
        memory=MemoryNumbers(limit=10, models=3), batches=NO_ROWS.add(4),
    )  # fmt: skip
    other = EngineNumbers(
        running=2, parked=3, steps=7, step_seconds=0.2, device="cuda:1", models=("a", "b"), lost="gone",
        memory=MemoryNumbers(limit=20, models=4), batches=NO_ROWS.add(8),
    )  # fmt: skip
    both = total_numbers([one, other])
    assert (both.running, both.parked, both.steps, both.step_seconds) == (3, 5, 12, 0.5)
    assert both.device == "cuda:0, cuda:1"
    assert (both.models, both.gpu_utilisation, both.lost) == (("a", "b"), 0.5, "gone")
    assert both.memory == MemoryNumbers(limit=30, models=7)
    assert (both.batches.count, both.batches.total) == (2, 12)
    assert both.devices == (one, other)


def test_two_devices_on_threads_of_their_own() -> None:
    """With one that dies amid submits and cancels, each request that was taken in ends exactly once."""
    ended: dict[str, int] = {}
    all_in = threading.Event()
    lock = threading.Lock()
    taken: list[str] = []

    def deliver(events: Sequence[EngineEvent]) -> None:
        with lock:
            for event in events:
                if isinstance(event, (Finished, Failed, Canceled)):
                    ended[event.request_id] = ended.get(event.request_id, 0) + 1
            if len(ended) == 120:
                all_in.set()

    models = iter([Frail(falls=40), FakeModel()])
    with ThreadPoolExecutor(4) as pool:

        def make(settings: EngineSettings, deliver: Deliver) -> Engine:
            model = next(models)
            engine = Engine(
                [ModelCard(name="tiny", source="tiny")],
                settings,
                lambda: _ignore(pool.submit(engine.run)),
                deliver,
                load_model=model.load,
                weigh=lambda card, settings: 0,
            )
            return engine

        fleet = Fleet([EngineSettings(device="cpu", max_batch=4)] * 2, make, deliver)

        def use(user: int) -> None:
            for n in range(30):
                request_id = f"{user}-{n}"
                fleet.submit(a_request(request_id, num_inference_steps=1 + n % 3))
                taken.append(request_id)
                if n % 5 == 4:
                    fleet.cancel(f"{user}-{n - 2}")

        with ThreadPoolExecutor(4) as users:
            list(users.map(use, range(4)))
        assert all_in.wait(WAIT), sorted(set(taken) - set(ended))
    assert set(ended.values()) == {1}
    assert set(ended) == set(taken)


def _ignore(_: object) -> None:
    """A future whose outcome is seen elsewhere."""
