"""The engine on a GPU beside diffusers' pipeline: pictures a second by batch, with adapters, and what the device could do.

    python -m bench.gpu [--rounds N] [--no-compiled] [--profile FILE] [--tiny]

First the device's own ceiling: the best of some products of large float16 matrices. Then Stable Diffusion 1.5 (512 × 512)
and XL (1024 × 1024) at their full sizes with random weights, in float16, guidance 7.5, DPM-Solver++ 2M: the engine with
1 … 32 requests at once at 20 and 50 steps, with one adapter and with eight, and the pipeline, eager and compiled, in the same
process and from the same files. A run's time is from the first submit to the last picture's bytes, prompts and decoding
included; each kind of run is made once before it is timed, and is then the best of the rounds.

    tflops          the ceiling, in 10¹² operations a second
    images_s        pictures a second
    of_ceiling      images_s times the arithmetic of a picture (the networks' own: docs/benchmarks.md), over the ceiling
    peak_gb         the most that torch's allocator gave out in the run

Without a CUDA device it refuses. `--tiny` runs the whole of it, but for compiling, with the embedded model on the CPU: a check
of this file, no measurement.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from ai.cards import read_card
from ai.device import find_place
from ai.engine import Engine
from ai.types import AdapterUse, EngineEvent, EngineSettings, Failed, Finished, GenerationRequest
from bench.random_models import copy_demo, write_adapters, write_model
from bench.report import print_machine, print_table

GUIDANCE = 7.5
ADAPTERS = 8
PROMPT = "a lighthouse on a cliff above the sea, evening light"


@dataclass(frozen=True, slots=True)
class Workload:
    """One model's runs. `tera_step` and `tera_decode` are 10¹² operations: of a forward pass of one row, of one decode."""

    name: str
    size: int
    steps: tuple[int, ...]
    batches: tuple[int, ...]
    tera_step: float
    tera_decode: float

    def tera(self, steps: int) -> float:
        """The arithmetic of a picture: with guidance a step is two rows."""
        return 2 * steps * self.tera_step + self.tera_decode


# Operations as torch's FlopCounterMode counts them in the published networks at these sizes.
SD15 = Workload("sd15", 512, (20, 50), (1, 2, 4, 8, 16, 32), 0.803, 2.51)
SDXL = Workload("sdxl", 1024, (20, 50), (1, 2, 4, 8), 6.76, 10.47)
TINY = Workload("tiny", 64, (2,), (1, 2), 1e-4, 1e-3)


@dataclass(frozen=True, slots=True)
class Result:
    """One kind of run. `who` paints: the engine, or the pipeline eager or compiled."""

    model: str
    who: str
    steps: int
    batch: int
    adapters: int
    seconds: float
    images_s: float
    of_ceiling: float
    step_ms: float
    peak_gb: float


class NoDevice(Exception):
    """There is nothing to measure on."""


def device_for(tiny: bool) -> torch.device:
    """Where to measure. Raises NoDevice."""
    if tiny:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise NoDevice("no CUDA device: not measured")
    return torch.device("cuda", torch.cuda.current_device())


def matrix_ceiling(device: torch.device, side: int, tries: int) -> float:
    """The best of some products of square matrices, in 10¹² operations a second."""
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    one, other = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = [timed(device, lambda: torch.mm(one, other)) for _ in range(tries + 1)]
    return 2 * side**3 / min(seconds[1:]) / 1e12


def timed(device: torch.device, work: Callable[[], object]) -> float:
    """How long it takes until the device has done it."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class EngineUnderTest:
    """The engine as the server has it, on this thread."""

    def __init__(self, workload: Workload, folder: Path, device: torch.device) -> None:
        self._workload = workload
        self._events: list[EngineEvent] = []
        self._ids = iter(range(1_000_000))
        # No batch is held back for its pace: what a batch of each size gives is the question here.
        settings = EngineSettings(device=str(device), max_batch=max(workload.batches), max_step_seconds=1e9)
        card = read_card(workload.name, str(folder))
        self._engine = Engine([card], settings, lambda: None, self._events.extend)

    def paint(self, batch: int, steps: int, adapters: Sequence[str]) -> None:
        """So many requests at once, each with the next of the adapters."""
        workload = self._workload
        for n in range(batch):
            uses = (AdapterUse(adapters[n % len(adapters)]),) if adapters else ()
            self._engine.submit(
                GenerationRequest(
                    request_id=str(next(self._ids)), model=workload.name, prompt=PROMPT, width=workload.size,
                    height=workload.size, num_inference_steps=steps, guidance_scale=GUIDANCE, seed=n, adapters=uses,
                )
            )  # fmt: skip
        self._events.clear()
        self._engine.run()
        failed = [event.error for event in self._events if isinstance(event, Failed)]
        if failed:
            raise failed[0]
        assert sum(isinstance(event, Finished) for event in self._events) == batch


class PipelineUnderTest:
    """diffusers' own pipeline, from the same files."""

    def __init__(self, workload: Workload, folder: Path, device: torch.device, *, compiled: bool) -> None:
        from diffusers import DiffusionPipeline

        self._workload = workload
        dtype = find_place(EngineSettings(device=str(device))).dtype
        given = {} if workload is SDXL else {"safety_checker": None, "requires_safety_checker": False}
        self._pipeline: Any = DiffusionPipeline.from_pretrained(folder, dtype=dtype, local_files_only=True, **given)
        self._pipeline.to(device)
        self._pipeline.set_progress_bar_config(disable=True)
        if compiled:
            self._pipeline.unet = torch.compile(self._pipeline.unet, mode="reduce-overhead")

    def paint(self, batch: int, steps: int, adapters: Sequence[str]) -> None:
        """One call for the whole batch; it has no adapters here."""
        size = self._workload.size
        self._pipeline(
            [PROMPT] * batch, width=size, height=size, num_inference_steps=steps, guidance_scale=GUIDANCE,
            output_type="np",
        )  # fmt: skip


class Bench:
    """All runs on one device, beside its ceiling."""

    def __init__(self, device: torch.device, tflops: float, rounds: int) -> None:
        self._device = device
        self._tflops = tflops
        self._rounds = rounds

    def engine(self, workload: Workload, folder: Path, names: Sequence[str]) -> Iterator[Result]:
        """The engine: every batch at every number of steps, the largest with one adapter and with eight too."""
        under_test = EngineUnderTest(workload, folder, self._device)
        for steps in workload.steps:
            for batch in workload.batches:
                yield self._run(workload, "engine", under_test.paint, batch, steps, ())
        for count in (1, ADAPTERS):
            yield self._run(
                workload, "engine", under_test.paint, max(workload.batches), workload.steps[0], names[:count]
            )

    def pipeline(self, workload: Workload, folder: Path, *, compiled: bool) -> Iterator[Result]:
        """The pipeline: one picture at a time, as it is served behind a lock, and eight."""
        under_test = PipelineUnderTest(workload, folder, self._device, compiled=compiled)
        who = "compiled pipeline" if compiled else "pipeline"
        for steps in workload.steps:
            for batch in sorted({1, min(8, max(workload.batches))}):
                yield self._run(workload, who, under_test.paint, batch, steps, ())

    def _run(
        self, workload: Workload, who: str, paint: Callable[[int, int, Sequence[str]], None], batch: int, steps: int,
        adapters: Sequence[str],
    ) -> Result:  # fmt: skip
        paint(batch, 2, adapters)  # whatever is chosen, compiled or loaded at the first time
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        seconds = min(timed(self._device, lambda: paint(batch, steps, adapters)) for _ in range(self._rounds))
        peak = torch.cuda.max_memory_allocated(self._device) / 1e9 if self._device.type == "cuda" else 0.0
        images_s = batch / seconds
        return Result(
            model=workload.name, who=who, steps=steps, batch=batch, adapters=len(adapters), seconds=seconds,
            images_s=images_s, of_ceiling=images_s * workload.tera(steps) / self._tflops,
            step_ms=1000 * seconds / steps, peak_gb=peak,
        )  # fmt: skip


def write_profile(workload: Workload, folder: Path, device: torch.device, file: Path) -> None:
    """What the device and the processor do in a run of ten steps of a batch of eight: operators by their time."""
    under_test = EngineUnderTest(workload, folder, device)
    batch = min(8, max(workload.batches))
    under_test.paint(batch, 2, ())
    kinds = [torch.profiler.ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=kinds) as profile:
        under_test.paint(batch, 10, ())
    order = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    file.write_text(profile.key_averages().table(sort_by=order, row_limit=40), encoding="utf-8")


def measure(arguments: argparse.Namespace, device: torch.device, scratch: Path) -> tuple[float, list[Result]]:
    """The ceiling and every run."""
    tflops = matrix_ceiling(device, 256 if arguments.tiny else 8192, tries=3 if arguments.tiny else 20)
    bench = Bench(device, tflops, arguments.rounds)
    results: list[Result] = []
    for workload in [TINY] if arguments.tiny else [SD15, SDXL]:
        folder = scratch / workload.name
        if arguments.tiny:
            copy_demo(folder)
        else:
            write_model(workload.name, folder, torch.float16, device)
        names = write_adapters(folder, ADAPTERS)
        results += bench.engine(workload, folder, names)
        results += bench.pipeline(workload, folder, compiled=False)
        if not arguments.no_compiled:
            results += bench.pipeline(workload, folder, compiled=True)
        if arguments.profile:
            write_profile(workload, folder, device, arguments.profile.with_suffix(f".{workload.name}.txt"))
    return tflops, results


def show(tflops: float, results: Sequence[Result]) -> None:
    """A table, and a line of JSON at the very end."""
    print(f"matrix ceiling: {tflops:,.2f} TFLOP/s\n")
    head = ("model, who", "steps", "batch", "adapters", "images/s", "of ceiling", "step, ms", "peak, GB")
    rows = [
        (f"{one.model}, {one.who}", str(one.steps), str(one.batch), str(one.adapters), f"{one.images_s:.2f}",
         f"{one.of_ceiling:.0%}", f"{one.step_ms:.1f}", f"{one.peak_gb:.1f}")
        for one in results
    ]  # fmt: skip
    print_table(head, rows)
    plain = [{key: round(v, 4) if isinstance(v, float) else v for key, v in asdict(one).items()} for one in results]
    print(json.dumps({"tflops": round(tflops, 3), "runs": plain}), flush=True)


def main(given: Sequence[str] | None = None) -> int:
    """Measure, or say why not."""
    parser = argparse.ArgumentParser(prog="python -m bench.gpu")
    parser.add_argument("--rounds", type=int, default=3, help="each kind of run is the best of so many")
    parser.add_argument("--no-compiled", action="store_true", help="leave the compiled pipeline out")
    parser.add_argument("--profile", type=Path, help="write a profile of each model beside this name")
    parser.add_argument("--tiny", action="store_true", help="the embedded model on the CPU: a check, no measurement")
    arguments = parser.parse_args(given)
    if arguments.tiny:
        arguments.no_compiled = True
    try:
        device = device_for(arguments.tiny)
    except NoDevice as error:
        print(error, file=sys.stderr)
        return 1
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "the CPU: a check, no measurement"
    print_machine(["torch", "diffusers"], device=name, threads=torch.get_num_threads())
    with tempfile.TemporaryDirectory() as scratch:
        tflops, results = measure(arguments, device, Path(scratch))
    show(tflops, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
