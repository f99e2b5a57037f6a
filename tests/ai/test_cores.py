"""How many CPU threads a pass is given: as many as make it quickest."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
import torch

from ai.cores import AGAIN, LONG, SHORT, Cores
from ai.device import Place
from ai.gauge import cores_of
from ai.types import EngineSettings, Finished
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel


class Machine:
    """Passes that take as long as `seconds` says of their number of threads, or `in_parts` of the number of parts."""

    def __init__(
        self, most: int, seconds: Callable[[int], float], in_parts: Callable[[int], float] | None = None
    ) -> None:
        self.seconds = seconds
        self.in_parts = in_parts
        self.threads = most
        self.taken: list[int] = []  # by the passes
        self.parts: list[int] = []  # that they were made in
        self._now = 0.0
        self.cores = Cores(most, self._take, lambda: self._now)

    def passes(self, count: int, kind: str = "a") -> list[int]:
        """The threads that so many passes took."""
        self.taken.clear()
        self.parts.clear()
        for _ in range(count):
            assert self.cores.run(kind, self._work, 16 if self.in_parts else 1) == "done"
        return list(self.taken)

    def _take(self, threads: int) -> None:
        self.threads = threads

    def _work(self, parts: int) -> str:
        self.taken.append(self.threads)
        self.parts.append(parts)
        self._now += self.in_parts(parts) if self.in_parts and parts > 1 else self.seconds(self.threads)
        return "done"


def test_few_threads_where_waking_them_takes_longer() -> None:
    """Where one thread is quickest it is found by halves, and kept."""
    machine = Machine(8, lambda threads: 0.01 / threads + 0.01 * threads)
    assert machine.passes(100)[-60:] == [1] * 60


def test_all_threads_where_they_gain() -> None:
    """Where half as many take longer, all are kept."""
    machine = Machine(8, lambda threads: 0.1 / threads)
    taken = machine.passes(100)
    assert set(taken) == {8, 4}
    assert taken[-90:] == [8] * 90


def test_a_core_must_be_worth_it() -> None:
    """Where half as many take about as long, they are taken."""
    assert Machine(2, {2: 0.100, 1: 0.104}.__getitem__).passes(20)[-1] == 1
    assert Machine(2, {2: 0.100, 1: 0.106}.__getitem__).passes(20)[-1] == 2


def test_the_middle() -> None:
    """The best number may be neither one nor all."""
    machine = Machine(16, {16: 0.09, 8: 0.05, 4: 0.03, 2: 0.06, 1: 0.12}.__getitem__)
    taken = machine.passes(100)
    assert taken[-60:] == [4] * 60
    assert 1 not in taken


def test_one_disturbed_pass_decides_nothing() -> None:
    """The quickest of a few tells."""
    disturbed = iter([0.0, 0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.0])
    machine = Machine(2, lambda threads: {2: 0.02, 1: 0.01}[threads] + next(disturbed, 0.0))
    assert machine.passes(20)[-1] == 1


def test_a_long_pass_is_not_made_longer_for_a_trial() -> None:
    """With seconds of work in a pass, fewer threads are never tried."""
    assert set(Machine(16, lambda threads: 16 * LONG * 1.1 / threads).passes(50)) == {16}


def test_in_parts_where_that_gains() -> None:
    """Twice as many as long as that pays: each part then has as many threads as there are for it."""
    machine = Machine(8, {8: 0.09, 4: 0.06, 2: 0.05, 1: 0.08}.__getitem__, {2: 0.04, 4: 0.02, 8: 0.03}.__getitem__)
    machine.passes(100)
    assert (machine.parts[-60:], machine.taken[-60:]) == ([4] * 60, [2] * 60)
    assert max(machine.parts) == 8, "more was tried"


def test_whole_where_parts_gain_nothing() -> None:
    """The cores are missing elsewhere."""
    machine = Machine(2, {2: 0.05, 1: 0.05}.__getitem__, {2: 0.049}.__getitem__)
    machine.passes(30)
    assert (machine.parts[-10:], machine.taken[-10:]) == ([1] * 10, [1] * 10)
    assert 2 in machine.parts


def test_a_short_pass_is_not_tried_in_parts() -> None:
    """To hand a part over takes as long as is gained."""
    machine = Machine(2, {2: SHORT, 1: SHORT}.__getitem__, {2: SHORT / 2}.__getitem__)
    machine.passes(30)
    assert set(machine.parts) == {1}


def test_parts_run_side_by_side_and_are_all_waited_for() -> None:
    """Each on a thread of its own with its share of the library's; what one raises is told when none is under way."""
    seen: dict[str, tuple[str, int]] = {}
    threads = threading.local()
    meeting, after = threading.Barrier(2, timeout=60), threading.Event()

    def take(count: int) -> None:
        threads.count = count

    def first() -> str:
        meeting.wait()
        seen["first"] = (threading.current_thread().name, threads.count)
        return "first"

    def second() -> str:
        meeting.wait()
        seen["second"] = (threading.current_thread().name, threads.count)
        return "second"

    cores = Cores(4, take)
    assert cores.run("a", lambda parts: cores.abreast([first, second]), 1) == ["first", "second"]
    assert seen["first"] == (threading.current_thread().name, 4)
    assert seen["second"] == ("part_0", 2)

    def fails() -> str:
        meeting.wait()
        raise RuntimeError("no")

    def lasts() -> str:
        meeting.wait()
        after.set()
        return "lasts"

    with pytest.raises(RuntimeError, match="no"):
        cores.abreast([fails, lasts])
    assert after.is_set()


def test_kinds_are_told_apart() -> None:
    """What is best for one kind of pass says nothing about another."""
    machine = Machine(2, {2: 0.02, 1: 0.01}.__getitem__)
    assert machine.passes(20, "small")[-1] == 1
    machine.seconds = {2: 0.1, 1: 0.2}.__getitem__
    assert machine.passes(20, "large")[-1] == 2
    assert machine.passes(1, "small") == [1]


def test_it_is_tried_again() -> None:
    """What was best may be so no more: after many passes all threads are tried anew."""
    machine = Machine(2, {2: 0.02, 1: 0.01}.__getitem__)
    assert machine.passes(AGAIN)[-1] == 1
    machine.seconds = {2: 0.01, 1: 0.02}.__getitem__
    assert machine.passes(20)[-1] == 2


def test_one_thread_has_no_choice() -> None:
    """Nothing is tried where there is nothing to try."""
    assert Machine(1, lambda threads: 0.01).passes(20) == [1] * 20


def test_a_pass_that_fails_leaves_the_threads_as_they_were() -> None:
    """What the thread does beside passes has all threads, also after a failure."""
    machine = Machine(2, {2: 0.02, 1: 0.01}.__getitem__)
    machine.passes(20)
    assert machine.threads == 2

    def fail(parts: int) -> None:
        assert machine.threads == 1
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        machine.cores.run("a", fail)
    assert machine.threads == 2


def test_a_device_with_cores_of_its_own_has_no_such_question() -> None:
    """On CUDA nobody tries; on a CPU the setting is the most that is."""
    settings = EngineSettings(device="cpu", torch_threads=3)
    assert cores_of(Place(torch.device("cuda", 0), torch.float16), settings) is None
    cores = cores_of(Place(torch.device("cpu"), torch.float32), settings)
    assert cores is not None
    before = torch.get_num_threads()
    try:
        assert cores.run("a", lambda parts: torch.get_num_threads()) == 3
    finally:
        torch.set_num_threads(before)


def test_the_engine_gives_its_passes_their_threads() -> None:
    """A picture's steps take as many as the settings say at most, and fewer where the trial says so."""
    seen: list[int] = []
    before = torch.get_num_threads()
    model = FakeModel(on_predict=lambda: seen.append(torch.get_num_threads()))
    bench = Bench(model.load, EngineSettings(device="cpu", torch_threads=2))
    try:
        bench.engine.submit(a_request("a", num_inference_steps=20))
        bench.engine.run()
    finally:
        torch.set_num_threads(before)
    assert isinstance(bench.end("a"), Finished)
    assert set(seen) == {1, 2}
