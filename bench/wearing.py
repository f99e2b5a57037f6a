"""What wearing adapters costs, and what it would cost with nothing around it: the engine's own step of ten guided pictures.

    python -m bench.wearing [--rounds N] [--threads N]

In one process, by the CPU time of the thread that steps (one torch thread, unless told otherwise: then by the clock), the
kinds of batch in turns, round by round over the step without adapters:

    ten_adapters        the ten of bench.wardrobe, a picture each
    ten_attention       ten random ones of rank 8 on the attention layers alone
    one_adapter         all pictures wear the same of the ten
    products            the ten's own calls to the library (matrix products, convolutions, sums over a kernel's taps), recorded
                        in a step and made again with nothing around them: what an engine that costs nothing would add
    arithmetic          the multiplications that the ten add, over those of the step: what a library as quick at narrow matrices
                        as at wide ones would add
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ai import families
from ai.adapters.folder import find_adapters
from ai.adapters.residents import Residents
from ai.adapters.stacks import AdaptedConvolution, AdaptedLayer, AdaptedLinear
from ai.cards import read_card
from ai.families.family import Model
from ai.stepping import Stack, open_row
from ai.types import AdapterUse, EngineSettings, GenerationRequest
from bench import wardrobe
from bench.painting import GUIDANCE, SIZE
from bench.report import Spread, print_figures, print_machine, print_table, ratios
from config.settings import DEMO_MODEL

PICTURES = wardrobe.COUNT
STEPS = 400  # more than are made
LIBRARY = {
    torch.ops.aten.bmm.default,
    torch.ops.aten.baddbmm_.default,
    torch.ops.aten.convolution.default,
    torch.ops.aten.col2im.default,
}
Calls = list[tuple[Callable[..., object], Any, Any]]


class _Recording(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its __init_subclass__ untyped
    def __init__(self, calls: Calls) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._calls = calls

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in LIBRARY:
            self._calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def library_calls(stack: Stack) -> Calls:
    """Those that the adapted layers make in a step, whose products then stand in the wrong places: the step is spoiled."""
    calls: Calls = []
    kinds: tuple[type[AdaptedLayer], ...] = (AdaptedLinear, AdaptedConvolution)
    plain = [kind.add for kind in kinds]

    def recorded(add: Callable[..., None]) -> Callable[..., None]:
        def record(*told: Any) -> None:
            with _Recording(calls):
                add(*told)

        return record

    try:
        for kind in kinds:
            kind.add = recorded(kind.add)  # type: ignore[method-assign]
        stack.advance()
    finally:
        for kind, add in zip(kinds, plain, strict=True):
            kind.add = add  # type: ignore[method-assign]
    return calls


def seated(model: Model, residents: Residents, names: Sequence[str]) -> Stack:
    """Ten guided pictures with these adapters in turn, or with none, after the step in which all is gathered."""
    rows = []
    for number, name in enumerate(islice(cycle(names or [""]), PICTURES)):
        outfit = residents.wear([AdapterUse(name)] if name else [], lambda *_: None)
        if not outfit.ready:
            raise SystemExit(f"{name}: cannot be worn")
        request = GenerationRequest(
            request_id="bench", model="demo", prompt="a red star on a white background", width=SIZE, height=SIZE,
            num_inference_steps=STEPS, guidance_scale=GUIDANCE, seed=number,
        )  # fmt: skip
        rows.append(open_row(model, request, 0, model.prompt(request, outfit.worn), outfit.worn))
    stack = Stack(model, rows)
    stack.advance()
    return stack


def multiplications(work: Callable[[], object]) -> int:
    """Of a step."""
    with FlopCounterMode(display=False) as counter:
        work()
    return int(counter.get_total_flops())


def measure(works: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, list[float]]:
    """Seconds of each, a value a round; forwards and backwards in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works)[:: 1 if number % 2 == 0 else -1]:
            began = clock()
            works[name]()
            seconds[name].append(clock() - began)
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table and the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--threads", type=int, default=1, help="torch's; with one, CPU time counts")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    clock = time.thread_time if given.threads == 1 else time.perf_counter
    print_machine(["torch"], threads=given.threads, clock=clock.__name__)
    model = families.load(read_card("demo", str(DEMO_MODEL)), EngineSettings(device="cpu", torch_threads=given.threads))
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder, torch.inference_mode():
        wide, narrow = wardrobe.gather(Path(folder))
        residents = Residents(find_adapters(Path(folder)), model.adapters)
        none, ten, attention, one = (seated(model, residents, names) for names in ([], wide, narrow, wide[:1]))
        share = multiplications(ten.advance) / multiplications(none.advance) - 1
        calls = library_calls(seated(model, residents, wide))
        seconds = measure(
            {
                "none": none.advance,
                "ten_adapters": ten.advance,
                "ten_attention": attention.advance,
                "one_adapter": one.advance,
                "products": lambda: [func(*args, **kwargs) for func, args, kwargs in calls],
            },
            given.rounds,
            clock,
        )
    over = {name: ratios(took, seconds["none"]) for name, took in seconds.items()}
    names = {
        "none": "no adapters",
        "ten_adapters": "ten adapters",
        "ten_attention": "ten, attention alone",
        "one_adapter": "one for all",
        "products": f"the ten's {len(calls)} products alone",
    }
    print_table(
        [f"{PICTURES} pictures, {2 * PICTURES} rows", "ms a step", "of a step without"],
        [[text, Spread.of(seconds[name]).text(1, 1000), over[name].text(3)] for name, text in names.items()]
        + [["the ten's arithmetic", "", f"{share:.3f}"]],
    )
    print_figures(
        {f"{name}_cost": over[name].median - 1 for name in ("ten_adapters", "ten_attention", "one_adapter")}
        | {"products": over["products"].median, "arithmetic": share}
    )


if __name__ == "__main__":
    main()
