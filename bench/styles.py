"""Ten users with ten adapters: Atelier beside the two servers that people build, and beside itself without adapters.

Part of bench.engine, which says what the figures mean. All sides get the same prompts, seeds and adapters, ten requests at once,
one side after the other in changing order; every picture of a peer is compared with ours.
"""

from __future__ import annotations

import asyncio
import http.client
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from bench import wardrobe
from bench.atelier_server import atelier
from bench.children import Child, free_port, running
from bench.painting import (
    MAX_DIFFERENCE,
    AtelierPainter,
    LitServePainter,
    Order,
    Painter,
    PipelinePainter,
    WrongPicture,
    difference,
    orders,
)
from bench.report import Spread, print_table, ratios
from config.settings import DEMO_MODEL

AT_ONCE = wardrobe.COUNT
NONE, WORN, NARROW, LOCK, LITSERVE = "no adapters", "ten adapters", "ten, attention alone", "behind a lock", "LitServe"
Sides = Mapping[str, tuple[Sequence[Painter], Sequence[str]]]
READY_LIMIT = 120.0  # seconds for LitServe to load in its worker


@dataclass(slots=True)
class Worn:
    """Seconds for ten pictures asked for at once, a value a round; the pictures' differences; the step loop's own figures."""

    seconds: dict[str, list[float]] = field(
        default_factory=lambda: {kind: [] for kind in (NONE, WORN, NARROW, LOCK, LITSERVE)}
    )
    differences: list[int] = field(default_factory=list)
    joining: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Painted:
    """Pictures, and the seconds from the first request to the last of them."""

    pictures: list[bytes]
    seconds: float


async def at_once(painters: Sequence[Painter], wanted: Sequence[Order]) -> Painted:
    """Everything at the same time, an order a painter."""
    began = time.perf_counter()
    pictures = await asyncio.gather(*(one.paint(order) for one, order in zip(painters, wanted, strict=True)))
    return Painted(pictures, time.perf_counter() - began)


async def measure(rounds: int, joins: int, threads: int) -> Worn:
    """All rounds. Raises WrongPicture."""
    worn = Worn()
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        made, peers = Path(folder) / "made", Path(folder) / "peers"
        made.mkdir()
        names, narrow = wardrobe.gather(made)
        wardrobe.as_diffusers(names, made, peers)
        with running("bench.joining", str(DEMO_MODEL), str(threads), str(made), *names) as child:
            child.hear()
            worn.joining = child.ask({"requests": joins})
        with (
            atelier(settings={"TORCH_THREADS": threads, "ADAPTERS_DIR": made}) as server,
            running("bench.peers.pipeline", str(DEMO_MODEL), str(threads), str(peers)) as pipeline,
            litserve(threads, peers) as port,
        ):
            told = pipeline.hear()
            ours: Sequence[Painter] = [await AtelierPainter.connect(server.port) for _ in range(AT_ONCE)]
            lock: Sequence[Painter] = [await PipelinePainter.connect(told["port"]) for _ in range(AT_ONCE)]
            lit: Sequence[Painter] = [LitServePainter(port) for _ in range(AT_ONCE)]
            sides: Sides = {
                NONE: (ours, [""]),
                WORN: (ours, names),
                NARROW: (ours, narrow),
                LOCK: (lock, names),
                LITSERVE: (lit, names),
            }
            for kind in (NONE, WORN, NARROW):  # adapters are in memory before anything counts
                await at_once(ours, list(islice(orders(sides[kind][1]), AT_ONCE)))
            for kind in (LOCK, LITSERVE):
                await sides[kind][0][0].paint(next(orders(names)))
            for number in range(rounds):
                await _round(worn, sides, number)
            for painter in (*ours, *lock, *lit):
                painter.close()
    if max(worn.differences) > MAX_DIFFERENCE:
        raise WrongPicture(f"a picture with an adapter and a peer's are {max(worn.differences)} of 255 apart")
    return worn


async def _round(worn: Worn, sides: Sides, number: int) -> None:
    pictures: dict[str, list[bytes]] = {}
    for kind in list(sides) if number % 2 == 0 else list(sides)[::-1]:
        painters, names = sides[kind]
        wanted = list(islice(orders(names), AT_ONCE * number, AT_ONCE * (number + 1)))
        painted = await at_once(painters, wanted)
        worn.seconds[kind].append(painted.seconds)
        pictures[kind] = painted.pictures
    for peer in (LOCK, LITSERVE):
        worn.differences += map(difference, pictures[WORN], pictures[peer])
    if any(one == other for one, other in zip(pictures[WORN], pictures[NONE], strict=True)):
        raise WrongPicture("a picture with an adapter is the one without")


@contextmanager
def litserve(threads: int, adapters: Path) -> Iterator[int]:
    """LitServe with its worker ready; its port."""
    port = free_port()
    with running("bench.peers.litserve_api", str(DEMO_MODEL), str(threads), str(adapters), str(port)) as child:
        _wait_for(child, port)
        yield port


def _wait_for(child: Child, port: int) -> None:
    end = time.monotonic() + READY_LIMIT
    while time.monotonic() < end:
        child.check()
        with suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
            connection.request("GET", "/health")
            if connection.getresponse().status == http.HTTPStatus.OK:
                return
        time.sleep(0.2)
    raise WrongPicture(f"LitServe was not ready within {READY_LIMIT:g} s")


def report(worn: Worn, ceiling: Spread) -> dict[str, float]:
    """Tables, and the figures. `ceiling` is what batching could give, from the bare networks."""
    seconds = worn.seconds
    cost, narrow = ratios(seconds[WORN], seconds[NONE]), ratios(seconds[NARROW], seconds[NONE])
    lock, lit = ratios(seconds[LOCK], seconds[WORN]), ratios(seconds[LITSERVE], seconds[WORN])
    print_table(
        [f"{AT_ONCE} pictures, asked for at once", "seconds"],
        [[f"Atelier, {kind}", Spread.of(seconds[kind]).text(3)] for kind in (NONE, WORN, NARROW)]
        + [["pipeline behind a lock, ten adapters", Spread.of(seconds[LOCK]).text(3)]]
        + [["LitServe, batches of equal adapters, ten adapters", Spread.of(seconds[LITSERVE]).text(3)]],
    )
    print_table(
        ["ten adapters", "times"],
        [
            ["pictures a second, Atelier over the pipeline behind a lock", lock.text(3)],
            ["the same, over LitServe", lit.text(3)],
            ["Atelier's own time, over that without adapters", cost.text(3)],
            ["the same, of adapters for the attention layers alone", narrow.text(3)],
        ],
    )
    print_table(
        ["the step loop", ""],
        [
            ["steps until a request joins, p99", f"{worn.joining['join_steps']:.0f}"],
            ["steps that a cancelled one still takes, p99", f"{worn.joining['cancel_steps']:.0f}"],
            ["a cold adapter read, checked and copied beside the steps, ms", f"{worn.joining['cold_ms']:.0f}"],
        ],
    )
    print(f"{len(worn.differences)} pictures with adapters compared: at most {max(worn.differences)} of 255 apart\n")
    return {
        "adapters_vs_lock": lock.median,
        "adapters_vs_lock_of_ceiling": lock.median / ceiling.median,
        "adapters_vs_litserve": lit.median,
        "adapters_vs_litserve_of_ceiling": lit.median / ceiling.median,
        "ten_adapters_cost": cost.median - 1,
        "ten_attention_adapters_cost": narrow.median - 1,
        **worn.joining,
    }
