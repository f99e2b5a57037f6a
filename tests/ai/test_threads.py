"""The engine between threads: no letter is lost, and no two loops run at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from ai.cards import ModelCard
from ai.engine import Engine
from ai.types import Canceled, EngineEvent, EngineSettings, EngineStopped, Finished
from tests.ai.drive import Bench, a_request
from tests.ai.fakes import FakeModel

WAIT = 60  # seconds after which a lost wake-up is called one; a run takes well under a second


class InterruptedLock(AbstractContextManager["InterruptedLock"]):
    """A lock after whose n-th release something happens before its last holder goes on: what another thread may do."""

    def __init__(self, lock: threading.Lock, moment: int, interrupt: Callable[[], None]) -> None:
        self._lock = lock
        self._left = moment
        self._interrupt = interrupt

    def __enter__(self) -> InterruptedLock:
        """Hold it."""
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self._lock.release()
        self._left -= 1
        if self._left == 0:
            self._interrupt()

    @property
    def reached(self) -> bool:
        """Whether the moment has come."""
        return self._left <= 0


def finishes_with_interrupt(moment: int, act: Callable[[Bench], None]) -> tuple[Bench, bool]:
    """Paint a request, `act` in between, and run the loop as often as it asks to be started (and once no more)."""
    bench, runs = Bench(FakeModel().load), 0
    bench.engine.submit(a_request("a", num_inference_steps=1))
    lock = InterruptedLock(bench.engine._inbox._lock, moment, lambda: act(bench))
    bench.engine._inbox._lock = lock  # type: ignore[assignment]
    while runs < bench.starts:
        bench.engine.run()
        runs += 1
    return bench, lock.reached


def test_a_request_that_comes_at_any_moment() -> None:
    """Wherever the loop is when a request comes, also just about to end, the request is painted."""
    moment, reached = 0, True
    while reached:
        moment += 1
        bench, reached = finishes_with_interrupt(
            moment, lambda bench: bench.engine.submit(a_request("b", num_inference_steps=1))
        )
        bench.finished("a")
        if reached:
            bench.finished("b")
    assert moment > 5, "the loop takes its lock more often than that"


def test_a_stop_that_comes_at_any_moment() -> None:
    """Wherever the loop is when it is stopped, the request ends once and the loop ends."""
    moment, reached = 0, True
    while reached:
        moment += 1
        bench, reached = finishes_with_interrupt(moment, lambda bench: bench.engine.stop())
        assert isinstance(bench.end("a"), (Canceled, Finished))


class Hall:
    """An engine on a pool of two threads (so that a second loop could run, if one were started) and its ends."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(max_workers=2)
        model = FakeModel(on_predict=self.check_alone)
        self.engine = Engine(
            [ModelCard(name="tiny", source="tiny")],
            EngineSettings(device="cpu"),
            lambda: self.loops.append(self.pool.submit(self.engine.run)),
            self.deliver,
            load_model=model.load,
        )
        self.loops: list[object] = []
        self.ends: list[str] = []
        self.gone: dict[str, threading.Event] = {}
        self.stepping = threading.Lock()
        self.overlaps = 0

    def check_alone(self) -> None:
        """Count the times that two loops step at once."""
        if not self.stepping.acquire(blocking=False):
            self.overlaps += 1
            return
        self.stepping.release()

    def deliver(self, events: Sequence[EngineEvent]) -> None:
        """Collect the ends, and tell those who wait for them."""
        with self.stepping:
            for event in events:
                if isinstance(event, (Finished, Canceled)):
                    self.ends.append(event.request_id)
                    if event.request_id in self.gone:
                        self.gone[event.request_id].set()


def test_no_wake_up_is_lost() -> None:
    """Threads that submit one-step requests, each waiting for its own end, while the loop ends again and again."""
    threads, each, hall = 4, 40, Hall()
    hall.gone = {f"{t}-{n}": threading.Event() for t in range(threads) for n in range(each)}

    def hammer(thread: int) -> bool:
        answered = []
        for n in range(each):
            request_id = f"{thread}-{n}"
            hall.engine.submit(a_request(request_id, num_inference_steps=1, guidance_scale=1.0))
            answered.append(hall.gone[request_id].wait(WAIT))
        return all(answered)

    with ThreadPoolExecutor(threads) as users:
        assert all(users.map(hammer, range(threads)))
    hall.pool.shutdown(wait=True)
    assert sorted(hall.ends) == sorted(hall.gone)
    assert hall.overlaps == 0


def test_stop_from_another_thread() -> None:
    """With a stop amid submits, each request that was taken in ends once, and the loop ends."""
    hall = Hall()
    taken: list[str] = []

    def submit(thread: int) -> None:
        for n in range(1000):
            try:
                hall.engine.submit(a_request(f"{thread}-{n}", num_inference_steps=50))
            except EngineStopped:
                return
            taken.append(f"{thread}-{n}")
            if len(taken) == 40:
                hall.engine.stop()

    with ThreadPoolExecutor(4) as users:
        list(users.map(submit, range(4)))
    hall.engine.stop()
    hall.pool.shutdown(wait=True)
    assert sorted(hall.ends) == sorted(taken)
