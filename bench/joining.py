"""How soon the step loop takes notice, in a process of its own: steps from asking to joining, and from cancelling to leaving.

    python -m bench.joining FOLDER THREADS ADAPTERS NAME ...

Told {"requests": N} on stdin, submits so many requests at odd moments, each with one of the named adapters (files of the folder
ADAPTERS or the model's own), cancels every third on its way, and answers with

    join_steps      p99 of the steps that began between a request's submission and its first, the running one not counted; its
                    adapter was in memory
    cancel_steps    p99 of the steps that ended with a request still in them after it was cancelled
    cold_ms         mean of what it took to read, check and copy an adapter while others stepped, in milliseconds
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

from ai.adapters.folder import find_adapters
from ai.cards import read_card
from ai.engine import Engine
from ai.types import AdapterUse, Canceled, EngineEvent, EngineSettings, Failed, Finished, GenerationRequest, Stepped
from bench.painting import GUIDANCE, SIZE, STEPS

PATIENCE = 300.0  # seconds for all requests to end, also on a busy machine
MOST_BETWEEN = (
    2.0  # seconds between two requests: most come into a running engine, and never so many that a batch is full
)


class Watch:
    """An engine on a thread of its own, and the step at which things happened to each request."""

    def __init__(self, folder: str, threads: int, adapters: Path) -> None:
        self._loop = ThreadPoolExecutor(1, "gpu")
        self._aside = ThreadPoolExecutor(1, "adapters")
        self.cold: list[float] = []  # seconds
        self.joined: list[int] = []
        self.left: list[int] = []
        self._asked: dict[str, int] = {}
        self._cancelled: dict[str, int] = {}
        self._ended = threading.Condition()
        self._open: set[str] = set()
        card = read_card("demo", folder, find_adapters(adapters))
        settings = EngineSettings(device="cpu", torch_threads=threads)
        self.engine = Engine(
            [card],
            settings,
            lambda: _ignore(self._loop.submit(self.engine.run)),
            self._hear,
            aside_adapters=self._beside,
        )

    def ask(self, request: GenerationRequest) -> None:
        """Submit, and note the step."""
        with self._ended:
            self._open.add(request.request_id)
        self._asked[request.request_id] = self.engine.numbers().steps
        self.engine.submit(request)

    def cancel(self, request_id: str) -> None:
        """Give it up; from now on its steps are counted."""
        self._cancelled[request_id] = 0
        self.engine.cancel(request_id)

    def wait(self) -> None:
        """Until everybody's end has come."""
        with self._ended:
            if not self._ended.wait_for(lambda: not self._open, PATIENCE):
                raise SystemExit(f"{len(self._open)} requests did not end in {PATIENCE:g} s")

    def _beside(self, work: Callable[[], None]) -> None:
        def timed() -> None:
            began = time.perf_counter()
            work()
            self.cold.append(time.perf_counter() - began)

        _ignore(self._aside.submit(timed))

    def _hear(self, events: Sequence[EngineEvent]) -> None:
        """On the loop's thread, after each step."""
        steps = self.engine.numbers().steps
        for event in events:
            if isinstance(event, Stepped) and event.request_id in self._cancelled:
                self._cancelled[event.request_id] += 1
            if isinstance(event, Stepped) and event.request_id in self._asked:
                self.joined.append(max(0, steps - self._asked.pop(event.request_id) - 1))
            elif isinstance(event, Canceled) and event.request_id in self._cancelled:
                self.left.append(self._cancelled[event.request_id])
            if isinstance(event, Failed):
                raise SystemExit(f"{event.request_id}: {event.error}")
            if isinstance(event, (Finished, Canceled)):
                with self._ended:
                    self._open.discard(event.request_id)
                    self._ended.notify_all()


def _ignore(future: object) -> None:
    """What comes of it is told by events."""


def a_request(number: int, adapter: str) -> GenerationRequest:
    """A picture of the benchmark's size."""
    return GenerationRequest(
        request_id=str(number),
        model="demo",
        prompt="a red star on a white background",
        width=SIZE,
        height=SIZE,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        seed=number,
        adapters=(AdapterUse(adapter),),
    )


def measure(watch: Watch, names: Sequence[str], requests: int) -> dict[str, float]:
    """Bring the adapters in while one request steps, then the odd moments."""
    random = Random(0)
    for number, name in enumerate(names):
        watch.ask(a_request(-1 - number, name))
    watch.wait()
    watch.joined.clear()
    for number in range(requests):
        watch.ask(a_request(number, names[number % len(names)]))
        time.sleep(random.uniform(0, MOST_BETWEEN))
        if number % 3 == 2:
            watch.cancel(str(number))  # the latest: those before it may have been painted by now
    watch.wait()
    return {
        "join_steps": _p99(watch.joined),
        "cancel_steps": _p99(watch.left),
        "cold_ms": sum(watch.cold) / len(names) * 1000,
    }


def _p99(values: Sequence[int]) -> float:
    return sorted(values)[max(0, -(-99 * len(values) // 100) - 1)]


def main(folder: str, threads: int, adapters: str, names: Sequence[str]) -> None:
    """Answer a line with a line until stdin ends."""
    watch = Watch(folder, threads, Path(adapters))
    watch.engine.load("demo")
    print(json.dumps({"threads": threads}), flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(watch, names, json.loads(line)["requests"])), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
