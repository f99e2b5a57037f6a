"""What a step gains by being made in parts side by side, a thread each, beside threads that share each operation.

    python -m bench.parts [--rounds N] [--threads N]

The engine's own steps of the embedded model, by the clock, in one process and in turns, round by round over one thread; 1, 2, 5,
10 and 16 guided pictures, and 10 with ten adapters. Every way's latents are compared with one thread's (docs/promises.md).
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is imported

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import torch

from ai import families
from ai.adapters.folder import find_adapters
from ai.adapters.residents import Residents
from ai.cards import read_card
from ai.cores import Cores, Way
from ai.families.family import Model
from ai.gauge import Meter, TensorGauge
from ai.memory import Memory, Network, Pass
from ai.stepping import Row, Stepper, open_row
from ai.types import AdapterUse, EngineSettings, GenerationRequest
from bench import wardrobe
from bench.painting import GUIDANCE, SIZE
from bench.report import Spread, print_figures, print_machine, print_table, ratios
from config.settings import DEMO_MODEL

T = TypeVar("T")
PICTURES = (1, 2, 5, 10, 16)
STEPS = 900  # more than are made, and fewer than the schedule has
APART = 2e-3  # latents, of their standard deviation: docs/promises.md, float32


class OneWay(Meter):
    """A `Meter` that measures nothing, and makes every pass in one way."""

    def __init__(self, way: Way, cores: Cores) -> None:
        super().__init__(
            Memory(), TensorGauge(), lambda: False, lambda network: Pass("demo", SIZE, SIZE, network), cores
        )
        self._way = way

    def fitting(self, network: Network, rows: int) -> int:
        """All."""
        return rows

    def run(self, network: Network, rows: int, work: Callable[[int], T], most_parts: int = 1) -> T:
        """The pass."""
        torch.set_num_threads(self._way.threads)
        return work(min(self._way.parts, most_parts))


def opened(model: Model, residents: Residents, pictures: int, names: Sequence[str]) -> list[Row]:
    """Guided pictures with these adapters in turn, or with none."""
    rows = []
    for number, name in enumerate(islice(cycle(names or [""]), pictures)):
        outfit = residents.wear([AdapterUse(name)] if name else [], lambda *_: None)
        if not outfit.ready:
            raise SystemExit(f"{name}: cannot be worn")
        request = GenerationRequest(
            request_id="bench", model="demo", prompt="a red star on a white background", width=SIZE, height=SIZE,
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, seed=number,
        )  # fmt: skip
        rows.append(open_row(model, request, 0, model.prompt(request, outfit.worn), outfit.worn))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table and the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    given = parser.parse_args(arguments)
    most = max(2, given.threads)
    print_machine(["torch"], threads=most)
    cores = Cores(most, torch.set_num_threads)
    ways = {"one thread": Way(1), f"{most} threads": Way(most), f"{most} parts": Way(1, most)}
    model = families.load(read_card("demo", str(DEMO_MODEL)), EngineSettings(device="cpu", torch_threads=most))
    table, figures = [], {}
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder, torch.inference_mode():
        wide, _ = wardrobe.gather(Path(folder))
        residents = Residents(find_adapters(Path(folder)), model.adapters)
        for pictures, names in [*((pictures, []) for pictures in PICTURES), (10, wide)]:
            rows = {way: opened(model, residents, pictures, names) for way in ways}
            seconds = measure(
                {name: Stepper(model, OneWay(way, cores)) for name, way in ways.items()}, rows, given.rounds
            )
            check_same(rows)
            over = [ratios(seconds["one thread"], seconds[way]) for way in list(ways)[1:]]
            text = f"{pictures}{', ten adapters' if names else ''}"
            table.append([text, Spread.of(seconds["one thread"]).text(1, 1000), *(ratio.text(2) for ratio in over)])
            figures[f"parts_{pictures}{'_ten' if names else ''}"] = over[-1].median
    print_table(
        ["guided pictures", "one thread, ms a step", *(f"times as quick: {way}" for way in list(ways)[1:])], table
    )
    print_figures(figures)


def measure(steppers: dict[str, Stepper], rows: dict[str, list[Row]], rounds: int) -> dict[str, list[float]]:
    """Seconds of a step of each, after two in which all is prepared; forwards and backwards in turn."""
    seconds: dict[str, list[float]] = {way: [] for way in steppers}
    for number in range(rounds + 2):
        for way in list(steppers)[:: 1 if number % 2 == 0 else -1]:
            began = time.perf_counter()
            failures = steppers[way].step(rows[way])
            if failures:
                raise SystemExit(f"{way}: {next(iter(failures.values()))}")
            if number >= 2:
                seconds[way].append(time.perf_counter() - began)
    return seconds


def check_same(rows: dict[str, list[Row]]) -> None:
    """All ways have made the same, or the figures mean nothing."""
    wanted, *others = ([row.latents for row in some] for some in rows.values())
    for other in others:
        for one, latents in zip(wanted, other, strict=True):
            apart = float((one - latents).abs().max() / one.std())
            if apart > APART:
                raise SystemExit(f"latents are {apart:.1e} apart")


if __name__ == "__main__":
    main()
