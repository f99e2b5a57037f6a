"""Loading off the step loop: others step meanwhile, and whatever comes in the meantime is heard."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from ai.cards import ModelCard
from ai.engine import Engine
from ai.loading import Loader
from ai.types import (
    Canceled,
    EngineEvent,
    EngineSettings,
    Failed,
    Finished,
    ModelLoading,
    ModelReady,
    ModelUnavailable,
    Stepped,
)
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel

CPU = EngineSettings(device="cpu")


class Later:
    """An `Aside` that does its work when a test says so, as a thread might."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def __call__(self, work: Callable[[], None]) -> None:
        self.waiting.append(work)

    def work(self) -> None:
        """Do what was asked for."""
        waiting, self.waiting = self.waiting, []
        for work in waiting:
            work()

    def load(self, bench: Bench) -> None:
        """Have all that was asked for loaded (a model is weighed first, which is work too) and the loop hear of it."""
        while self.waiting:
            self.work()
            bench.engine.run()


def a_bench(later: Later, models: tuple[str, ...] = ("tiny", "other")) -> Bench:
    """An engine with two models, which load when the test says so."""
    return Bench(FakeModel().load, models=models, aside=later)


def test_others_step_while_a_model_loads() -> None:
    """A request for a model that is not in memory costs the others no step."""
    later = Later()
    bench = a_bench(later)
    bench.engine.load("tiny")
    bench.engine.run()
    later.load(bench)
    bench.paint(a_request("a", num_inference_steps=3), a_request("b", model="other"))
    assert len(bench.of(Stepped, "a")) == 3
    bench.finished("a")
    assert bench.of(ModelLoading)[-1].model == "other"
    later.load(bench)
    bench.finished("b")
    assert [event.model for event in bench.of(ModelReady)] == ["tiny", "other"]


def test_the_loop_ends_while_there_is_nothing_but_loading() -> None:
    """It takes no thread meanwhile; the loaded model starts it again."""
    later = Later()
    bench = a_bench(later)
    bench.paint(a_request("a"))
    assert [type(event) for event in bench.events] == [ModelLoading]
    assert bench.starts == 1
    later.work()
    assert bench.starts == 2
    bench.engine.run()
    later.load(bench)
    bench.finished("a")


def test_cancel_while_the_model_loads() -> None:
    """A request whose model is still loading is cancelled at once."""
    later = Later()
    bench = a_bench(later)
    bench.paint(a_request("a"))
    bench.engine.cancel("a")
    assert bench.starts == 2
    bench.engine.run()
    assert isinstance(bench.end("a"), Canceled)
    later.load(bench)
    assert bench.of(Stepped) == []


def test_stop_while_the_model_loads() -> None:
    """Stopping does not wait for the model."""
    later = Later()
    bench = a_bench(later)
    bench.paint(a_request("a"))
    bench.engine.stop()
    assert bench.starts == 2
    bench.engine.run()
    assert isinstance(bench.end("a"), Canceled)


def test_a_model_is_loaded_once_however_many_ask() -> None:
    """Requests that come while it loads wait for the same one."""
    later = Later()
    bench = a_bench(later)
    bench.paint(a_request("a"))
    bench.paint(a_request("b"), a_request("wide", width=128))
    bench.engine.load("tiny")
    bench.engine.run()
    assert len(later.waiting) == 1
    later.load(bench)
    assert {event.request_id for event in bench.of(Finished)} == {"a", "b", "wide"}


def test_a_model_that_fails_to_load_meanwhile() -> None:
    """Its requests fail when the news comes, the others are painted."""
    later = Later()

    def load(card: ModelCard, settings: EngineSettings) -> FakeModel:
        if card.name == "other":
            raise OSError("the disk is gone")
        return FakeModel()

    bench = Bench(load, models=("tiny", "other"), aside=later)
    bench.paint(a_request("a"), a_request("b", model="other"))
    later.load(bench)
    bench.finished("a")
    assert "the disk is gone" in str(bench.failed("b").error)
    assert [event.model for event in bench.of(ModelUnavailable)] == ["other"]
    assert len(bench.of(Failed)) == 1


@pytest.mark.parametrize("threads", [1, 4])
def test_with_real_threads(threads: int) -> None:
    """Loop and loading each on a thread of their own: every request ends once, however they fall together."""
    each, models = 20, [f"m{n}" for n in range(5)]
    ended: dict[str, threading.Event] = {f"{t}-{n}": threading.Event() for t in range(threads) for n in range(each)}
    ends: list[str] = []

    def deliver(events: object) -> None:
        for event in events:  # type: ignore[attr-defined]
            if isinstance(event, (Finished, Failed, Canceled)):
                ends.append(event.request_id)
                ended[event.request_id].set()

    with ThreadPoolExecutor(1) as loops, ThreadPoolExecutor(1) as loading, ThreadPoolExecutor(threads) as users:
        engine = Engine(
            [ModelCard(name=name, source=name) for name in models],
            CPU,
            lambda: _ignore(loops.submit(engine.run)),
            deliver,
            aside=lambda work: _ignore(loading.submit(work)),
            load_model=lambda card, settings: FakeModel(),
        )

        def use(thread: int) -> bool:
            heard = []
            for n in range(each):
                request_id, model = f"{thread}-{n}", models[(thread + n) % len(models)]
                engine.submit(a_request(request_id, model=model, num_inference_steps=1))
                heard.append(ended[request_id].wait(60))
            return all(heard)

        assert all(users.map(use, range(threads)))
    assert sorted(ends) == sorted(ended)


def _ignore(_: object) -> None:
    """A future whose outcome is seen elsewhere."""


def test_a_loader_says_exactly_one_thing() -> None:
    """What `done` itself raises is the loop's affair, not a failure to load."""
    letters: list[Callable[[], None]] = []
    said: list[object] = []
    loader = Loader(CPU, lambda work: work(), letters.append)
    loader.load(lambda: 7, said.append, said.append)
    loader.load(lambda: 1 // 0, said.append, lambda error: said.append(type(error)))
    assert said == []
    for letter in letters:
        letter()
    assert said == [7, ZeroDivisionError]


def test_events_of_models_name_no_request() -> None:
    """What is told of models can be told from what is told of requests."""
    bench = Bench(FakeModel().load)
    bench.paint(a_request("a"))
    kinds: list[EngineEvent] = [event for event in bench.events if not hasattr(event, "request_id")]
    assert [type(event) for event in kinds] == [ModelLoading, ModelReady]
