"""What a preview costs: the engine's own step, with and without a look at what the pictures are becoming.

    python -m bench.previews [--rounds N] [--threads N]

In one process, by the CPU time of the thread that steps (one torch thread, unless told otherwise: then by the clock). The
previews are for all rows at once, as when everyone asks for one; the engine makes them on the same thread, after the step.
Encoding a preview as PNG is the finishing threads' work and is measured beside it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from ai import families
from ai.cards import read_card
from ai.families.family import Model
from ai.stepping import Row, Stepper, open_row
from ai.types import EngineSettings, GenerationRequest
from bench.painting import GUIDANCE, SIZE
from bench.report import Spread, print_figures, print_machine, print_table
from config.settings import DEMO_MODEL
from server.jobs.finishing import encode_preview

PICTURES = (1, 10)
STEPS = 12  # of each round; the first two are not counted
WARM = 2
EVERY = (1, 2, 5)


def open_rows(model: Model, count: int) -> list[Row]:
    """So many guided pictures before their first step."""
    request = GenerationRequest(
        request_id="bench", model="demo", prompt="a red star on a white background", width=SIZE, height=SIZE,
        num_inference_steps=STEPS, guidance_scale=GUIDANCE, seed=1, num_images=count,
    )  # fmt: skip
    prompted = model.prompt(request, ())
    return [open_row(model, request, index, prompted) for index in range(count)]


def measure(model: Model, count: int, clock: Callable[[], float]) -> tuple[float, float, float]:
    """Mean seconds of a step, of the previews of all its rows, and of one preview's PNG."""
    stepper, rows = Stepper(model), open_rows(model, count)
    stepped = previewed = encoded = 0.0
    for step in range(STEPS):
        began = clock()
        if stepper.step(rows):
            raise SystemExit("a step failed")
        then = clock()
        previews = stepper.preview(rows)
        after = clock()
        for preview in previews:
            encode_preview(*preview)
        if step >= WARM:
            stepped += then - began
            previewed += after - then
            encoded += (clock() - after) / count
    counted = STEPS - WARM
    return stepped / counted, previewed / counted, encoded / counted


def main() -> None:
    """Measure, and print tables and figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="torch's; with one, CPU time counts")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    clock = time.thread_time if given.threads == 1 else time.perf_counter
    print_machine(["torch"], threads=given.threads, clock=clock.__name__)
    model = families.load(read_card("demo", str(DEMO_MODEL)), EngineSettings(device="cpu", torch_threads=given.threads))
    table: list[list[str]] = []
    figures: dict[str, float] = {}
    with torch.inference_mode():
        for count in PICTURES:
            seen = [measure(model, count, clock) for _ in range(given.rounds)]
            step, preview, png = (Spread.of(values) for values in zip(*seen, strict=True))
            share = Spread.of(previewed / stepped for stepped, previewed, _ in seen)
            table.append([str(count), *(part.text(2, 1000) for part in (step, preview, png)), share.text(3, 100)])
            figures |= {f"preview_share_{count}_every_{every}": share.median / every for every in EVERY}
    print_table(["pictures", "step, ms", "all their previews, ms", "one PNG, ms", "preview of a step, %"], table)
    print_figures(figures)


if __name__ == "__main__":
    main()
