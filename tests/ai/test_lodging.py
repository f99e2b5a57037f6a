"""One budget for painters' models and for others who take the same memory: who comes, who goes, and who waits."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

import pytest

from ai.lodging import Lodger
from ai.types import EngineError, Failed, Finished, ModelLoading, ModelUnloaded, OutOfMemory, Stepped
from tests.ai.drive import Bench, a_request
from tests.ai.test_memory import MODEL, ROOM_FOR_ONE, ROOM_FOR_TWO, a_bench, at_step, in_memory


@dataclass
class Guest:
    """A lodger that goes when it is asked to, unless it is busy: then when a test says so."""

    bench: Bench
    name: str = "guest"
    size: int = MODEL
    told: list[str] = field(default_factory=list)
    error: EngineError | None = None
    goes: bool = True

    def ask(self) -> None:
        self.bench.engine.lodge(
            Lodger(
                self.name,
                self.size,
                granted=lambda: self.told.append("granted"),
                refused=self._refused,
                leave=self._leave,
            )
        )
        self.bench.engine.run()

    def idle(self) -> None:
        self.bench.engine.lodger_busy(self.name, False)
        self.bench.engine.run()

    def go(self) -> None:
        self.told.append("gone")
        self.bench.engine.lodger_gone(self.name)

    def _refused(self, error: EngineError) -> None:
        self.told.append("refused")
        self.error = error

    def _leave(self) -> None:
        self.told.append("asked to leave")
        if self.goes:
            self.go()


def test_a_lodger_counts_in_the_budget() -> None:
    """From when it comes, as it grows, until it has gone."""
    bench = a_bench(ROOM_FOR_TWO)
    guest = Guest(bench)
    guest.ask()
    assert guest.told == ["granted"]
    assert bench.engine.numbers().memory.models == MODEL
    bench.engine.lodger_takes("guest", 2 * MODEL)
    bench.engine.run()
    assert bench.engine.numbers().memory.models == 2 * MODEL
    guest.go()
    bench.engine.run()
    assert bench.engine.numbers().memory.models == 0


def test_an_idle_lodger_goes_when_a_painter_needs_the_room() -> None:
    """It is asked, and the model is loaded when it has gone."""
    bench = a_bench(ROOM_FOR_ONE)
    guest = Guest(bench)
    guest.ask()
    guest.idle()
    bench.paint(a_request("a", model="a"))
    assert guest.told == ["granted", "asked to leave", "gone"]
    assert in_memory(bench) == {"a"}
    bench.finished("a")


def test_an_idle_painter_goes_when_a_lodger_needs_the_room() -> None:
    """The other way."""
    bench = a_bench(ROOM_FOR_ONE)
    bench.paint(a_request("a", model="a"))
    guest = Guest(bench)
    guest.ask()
    assert guest.told == ["granted"]
    assert [event.model for event in bench.of(ModelUnloaded)] == ["a"]


def test_the_one_that_was_not_used_for_longest_goes() -> None:
    """Whichever kind it is."""
    for first in ("lodger", "painter"):
        bench = a_bench(ROOM_FOR_TWO)
        guest = Guest(bench)
        for kind in ("lodger", "painter") if first == "lodger" else ("painter", "lodger"):
            if kind == "lodger":
                guest.ask()
                guest.idle()
            else:
                bench.paint(a_request("a", model="a"))
            bench.now += 1
        bench.paint(a_request("b", model="b"))
        assert ("gone" in guest.told) == (first == "lodger")
        assert in_memory(bench) == ({"a", "b"} if first == "lodger" else {"b"})


def test_a_lodger_waits_until_a_painter_is_done() -> None:
    """What is being painted is finished first, and nobody else is seated before the lodger has come."""
    bench = a_bench(ROOM_FOR_ONE)
    guest = Guest(bench, goes=False)
    lodger = Lodger("guest", MODEL, lambda: guest.told.append("granted"), guest._refused, guest._leave)

    def come() -> None:
        bench.engine.lodge(lodger)
        bench.engine.submit(a_request("late", model="a"))

    bench.on_deliver = at_step(bench, "a", 2, come)
    bench.paint(a_request("a", model="a", num_inference_steps=6))
    assert guest.told == ["granted", "asked to leave"], "when it is done: somebody waits again"
    assert [event.request_id for event in bench.of(Finished)] == ["a"]
    assert [event.request_id for event in bench.of(Stepped)] == ["a"] * 6
    guest.go()
    bench.engine.run()
    bench.finished("late")


def test_a_painter_waits_until_a_lodger_is_done() -> None:
    """One in use is asked to go when it can; the loop does not run in vain meanwhile."""
    bench = a_bench(ROOM_FOR_ONE)
    guest = Guest(bench, goes=False)
    guest.ask()
    bench.paint(a_request("a", model="a"))
    assert guest.told == ["granted", "asked to leave"]
    assert bench.of(ModelLoading)
    assert not bench.of(Finished)
    guest.go()
    bench.engine.run()
    bench.finished("a")


def test_idle_ones_go_before_those_in_use() -> None:
    """And no more than are needed."""
    bench = a_bench(replace(ROOM_FOR_TWO, memory_limit=3 * MODEL + MODEL // 2))
    guests = [Guest(bench, name=f"guest {number}") for number in range(3)]
    for guest in guests:
        guest.ask()
        bench.now += 1
    guests[1].idle()
    bench.paint(a_request("a", model="a"))
    assert [guest.told[1:] for guest in guests] == [[], ["asked to leave", "gone"], []]
    bench.finished("a")


def test_a_lodger_that_fits_nowhere_is_refused() -> None:
    """With both figures; it stays out, and others paint."""
    bench = a_bench(ROOM_FOR_ONE)
    guest = Guest(bench, size=5 * MODEL)
    guest.ask()
    assert isinstance(guest.error, OutOfMemory)
    assert str(guest.error) == "guest: takes 50 MB; 15 MB may be used"
    bench.paint(a_request("a", model="a"))
    bench.finished("a")
    assert not bench.of(Failed)


def test_a_lodger_that_does_not_want_to_come_any_more() -> None:
    """It leaves the line, and is never granted."""
    bench = a_bench(ROOM_FOR_ONE)
    busy = Guest(bench, goes=False)
    busy.ask()
    guest = Guest(bench, name="late")
    guest.ask()
    assert guest.told == []
    bench.engine.lodger_gone("late")
    busy.go()
    bench.engine.run()
    assert guest.told == []
    bench.paint(a_request("a", model="a"))
    bench.finished("a")


def test_lodgers_come_one_after_the_other() -> None:
    """In the order in which they asked, each when there is room."""
    bench = a_bench(ROOM_FOR_ONE)
    guests = [Guest(bench, name=f"guest {number}", goes=False) for number in range(3)]
    for guest in guests:
        guest.ask()
    for guest, following in pairwise(guests):
        assert guest.told[0] == "granted"
        assert following.told == []
        guest.go()
        bench.engine.run()
        assert following.told[0] == "granted"


def test_a_lodger_that_nobody_used_for_long_is_asked_to_go() -> None:
    """By the same time-out as models; one in use is not."""
    bench = a_bench(replace(ROOM_FOR_TWO, idle_unload=10.0))
    idle, busy = Guest(bench, name="idle"), Guest(bench, name="busy")
    for guest in (idle, busy):
        guest.ask()
    idle.idle()
    for seconds, gone in ((9.0, False), (1.0, True)):
        bench.now += seconds
        bench.engine.tidy()
        bench.engine.run()
        assert ("gone" in idle.told) == gone
    assert busy.told == ["granted"]


def test_where_the_engine_has_a_gpu_lodgers_share_main_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their budget is what the machine has but the reserve; what is on the GPU neither goes for them nor they for it."""
    bench = a_bench(replace(ROOM_FOR_ONE, memory_reserve=1))
    bench.paint(a_request("a", model="a"))
    monkeypatch.setattr("ai.gauge.device_memory", lambda device: 2 * MODEL + 1)
    bench.engine._lodge_apart()  # as it does when it finds its device to be a GPU
    first, second, third = (Guest(bench, name=name) for name in ("first", "second", "third"))
    for guest in (first, second):
        guest.ask()
        guest.idle()
        bench.now += 1
    assert in_memory(bench) == {"a"}
    third.ask()
    assert first.told == ["granted", "asked to leave", "gone"]
    assert third.told == ["granted"]
    bench.paint(a_request("b", model="b"))
    assert second.told == ["granted"]
    assert bench.engine.numbers().memory.models == MODEL
