"""A pass made in parts side by side makes what the whole pass makes, and a part that fails moves no row."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import given

from ai import cores
from ai.cores import Cores, Way
from ai.types import EngineEvent, EngineSettings, Failed, Finished
from tests.ai.drive import Bench, a_request, pixels
from tests.ai.fakes import FakeModel
from tests.ai.test_solo_equals_batched import CROWDS, EXAMPLES, THREE, Guest, House, tried
from tests.ai.test_solo_equals_batched import houses as houses

T = TypeVar("T")
PARTS = 3


class AlwaysInParts:
    """A `Trial` that knows already: in as many parts as there are rows for, each on one thread."""

    passes = 0

    def __init__(self, most: int, most_parts: int) -> None:
        self.way = Way(1, most_parts)

    def note(self, way: Way, seconds: float) -> None:
        """Learn nothing."""


@pytest.fixture
def _in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "Trial", AlwaysInParts)


def in_threads(house: House) -> House:
    """The house whose engines have as many threads as parts; what each request gives alone is painted whole."""
    return replace(house, settings=replace(house.settings, torch_threads=PARTS), alone=house.alone)


@pytest.fixture
def parted(houses: Callable[[str], House], _in_parts: None) -> House:
    """The models of the solo tests, with their adapters; what THREE give alone was painted before in one part."""
    return in_threads(houses("float32"))


@tried(EXAMPLES)
@given(**CROWDS)
def test_in_parts_too_solo_equals_batched(parted: House, plan: Sequence[Guest], max_batch: int, reading: int) -> None:
    """With any mix of requests that join, fail and are cancelled (alone a request is one row, and so one part)."""
    assert list(parted.differs(plan, max_batch, reading)) == []


def test_the_property_can_fail(parted: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are put together in another order are found out."""
    assert list(parted.differs(THREE)) == []
    sound = Cores.abreast

    def swapped(self: Cores, parts: Sequence[Callable[[], T]]) -> list[T]:
        return sound(self, parts)[::-1]

    monkeypatch.setattr(Cores, "abreast", swapped)
    assert len(list(parted.differs(THREE))) >= 2


@pytest.mark.usefixtures("_in_parts")
def test_a_part_that_fails_moves_no_row() -> None:
    """All are tried again in halves: the one that fails alone is found, and the others take each step once."""
    requests = [a_request(f"{number}", seed=number, num_inference_steps=12) for number in range(5)]
    bomb = a_request("bomb", prompt="bomb")
    threads: set[str] = set()
    model = FakeModel(on_predict=lambda: threads.add(threading.current_thread().name))
    together = Bench(model.load, EngineSettings(device="cpu", torch_threads=PARTS))

    def join_later(events: Sequence[EngineEvent]) -> None:
        if len(together.deliveries) == 6:  # when passes of every size have been measured, which are made whole
            together.engine.submit(bomb)

    together.on_deliver = join_later
    for request in requests:
        together.engine.submit(request)
    together.engine.run()
    assert isinstance(together.end("bomb"), Failed)
    assert any(model.batches[at : at + 3] == [4, 4, 4] for at in range(len(model.batches))), (
        "six pictures in three parts"
    )
    for request in requests:
        alone = Bench(FakeModel().load, EngineSettings(device="cpu", torch_threads=1))
        alone.paint(request)
        end, wanted = together.end(request.request_id), alone.end(request.request_id)
        assert isinstance(end, Finished)
        assert isinstance(wanted, Finished)
        assert np.array_equal(pixels(end.pictures[0]), pixels(wanted.pictures[0]))
