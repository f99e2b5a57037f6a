"""The first passes of a model after it was loaded, warmed up and not, each in a process of its own (bench.speedups)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ai import families
from ai.cards import read_card
from ai.families import sd15
from ai.stepping import Stepper, open_row
from ai.types import EngineSettings, GenerationRequest
from bench.gpu import timed
from bench.painting import GUIDANCE, SIZE
from bench.report import Spread, print_table
from config.settings import DEMO_MODEL


def settings_for(device: torch.device, threads: int) -> EngineSettings:
    """The engine's."""
    return EngineSettings(device=str(device), torch_threads=threads)


def a_request(size: int = SIZE) -> GenerationRequest:
    """One guided picture."""
    return GenerationRequest(
        request_id="bench", model="demo", prompt="a red star on a white background", width=size, height=size,
        num_inference_steps=20, guidance_scale=GUIDANCE, seed=1,
    )  # fmt: skip


def first_passes(device: torch.device, threads: int, *, warm: bool) -> dict[str, float]:
    """Milliseconds of loading, of the first picture's first and later steps, and of the first decode and a later one; on a
    CPU those of processor time, in which a busy machine hardly shows."""
    torch.set_num_threads(threads)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    card, settings = read_card("demo", str(DEMO_MODEL)), settings_for(device, threads)
    took: dict[str, float] = {}

    def note(name: str, work: Callable[[], Any]) -> Any:
        began = clock()
        made = work()
        timed(device, lambda: None)  # waits for it
        took[name] = 1000 * (clock() - began)
        return made

    model = note("load", lambda: (families.load if warm else sd15.load)(card, settings))
    with torch.inference_mode():
        stepper, row = Stepper(model), open_row(model, a_request(), 0, model.prompt(a_request(), ()))
        for name in ("first_step", "second", "later_step"):
            note(name, lambda: stepper.step([row]))
        for name in ("first_decode", "second", "later_decode"):
            note(name, lambda: stepper.decode([row]))
    return took


def firsts(rounds: int, threads: int, device: torch.device) -> dict[bool, list[dict[str, float]]]:
    """`first_passes` warm and not, each in a fresh process."""
    seen: dict[bool, list[dict[str, float]]] = {True: [], False: []}
    for number in range(rounds):
        for warm in (True, False) if number % 2 else (False, True):
            asked = [sys.executable, "-m", "bench.speedups", "--threads", str(threads), "--device", str(device)]
            ended = subprocess.run(
                [*asked, "--first", "warm" if warm else "cold"], capture_output=True, text=True, check=True
            )
            seen[warm].append(json.loads(ended.stdout.splitlines()[-1]))
    return seen


def show_firsts(seen: Mapping[bool, Sequence[Mapping[str, float]]]) -> dict[str, float]:
    """Print a table; by how many milliseconds the first passes are shorter for having warmed up."""
    names = ("load", "first_step", "later_step", "first_decode", "later_decode")
    table = [[name, *(Spread.of(one[name] for one in seen[warm]).text(0) for warm in (True, False))] for name in names]
    print_table(["ms (CPU: of its time), fresh processes", "warmed up", "not"], table)

    def median(warm: bool, name: str) -> float:
        return Spread.of(one[name] for one in seen[warm]).median

    return {
        f"warm_{name}_ms": median(True, name) - median(False, name) for name in ("load", "first_step", "first_decode")
    }
