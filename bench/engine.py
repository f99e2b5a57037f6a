"""Atelier's whole path beside StableDiffusionPipeline behind a lock: alone, with ten requests at once, and what is possible.

    python -m bench.engine [--rounds N] [--threads N] [--quick]

The demo model, 128 × 128, 20 steps, guidance 4, DPM-Solver++ 2M, float32 on the CPU. Atelier is started as a user starts it; a
client sends Submit over TCP and has the picture inline, stored and with progress on the way. The baseline
(bench.peers.pipeline) gets the same prompts and seeds over TCP and sends PNGs back. Both sides run in turns, never at
once, with the same number of torch threads (Atelier's at most: it takes fewer where that is quicker) and
OMP_WAIT_POLICY=passive; every pair of pictures is compared.

    solo_ratio      our time over theirs, a request at a time, in turns; less is better
    batch_ratio     our pictures a second over theirs, ten requests sent at once
    batch_ceiling   (20·U₂ + D₁) / ((20·U₂₀ + D₁₀) / 10) with U a bare UNet forward of so many rows, D a VAE decode: what an
                    engine that costs nothing itself would reach
    reactor_lag     the server's own figure (ServerStatus), from its `ready` on under ten requests at a time
    bare_lag        the same meter on a bare asyncio loop beside a thread that does UNet forwards of 20 rows

Then ten requests at once with ten adapters (bench.wardrobe), the same for all sides:

    adapters_vs_lock        our pictures a second over those of the pipeline behind a lock, with set_adapters for each request;
                            `_of_ceiling` over batch_ceiling
    adapters_vs_litserve    the same over LitServe, which batches what wears the same adapter
    ten_adapters_cost       our time with ten adapters over that without, less 1; `ten_attention_adapters_cost` with random ones
                            of rank 8 on the attention layers alone
    join_steps, cancel_steps, cold_ms    see bench.joining
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from bench import styles
from bench.atelier_server import Server, atelier
from bench.children import Child, end_on_sigterm, running
from bench.painting import (
    GUIDANCE,
    MAX_DIFFERENCE,
    SIZE,
    STEPS,
    AtelierPainter,
    Order,
    Painter,
    PipelinePainter,
    WrongPicture,
    difference,
    orders,
)
from bench.report import Spread, print_figures, print_machine, print_table, ratios
from bench.styles import at_once
from config.settings import DEMO_MODEL

AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    solo_pictures: int  # of each side, in a round
    forwards: int  # of each kind, in a round
    lag_seconds: float  # at most a minute: the meter looks back no farther
    joins: int  # requests at odd moments


@dataclass(slots=True)
class Seen:
    """What the rounds gave; seconds, a value a round."""

    solo_ours: list[float] = field(default_factory=list)  # for one picture
    solo_theirs: list[float] = field(default_factory=list)
    batch_ours: list[float] = field(default_factory=list)  # for all that were asked for at once
    batch_theirs: list[float] = field(default_factory=list)
    forwards: list[dict[str, float]] = field(default_factory=list)
    differences: list[int] = field(default_factory=list)  # of each pair of pictures
    reactor_lag_ms: float = 0.0
    bare_lag_ms: float = 0.0

    def ceilings(self) -> list[float]:
        """What batching could give, round by round."""
        return [
            (STEPS * took["unet_2"] + took["vae_1"]) / ((STEPS * took["unet_20"] + took["vae_10"]) / AT_ONCE)
            for took in self.forwards
        ]


class Match:
    """The two sides, connected, and the bare networks."""

    def __init__(
        self, ours: Sequence[Painter], theirs: Sequence[Painter], networks: Child, plan: Plan, seen: Seen
    ) -> None:
        self._ours = ours
        self._theirs = theirs
        self._networks = networks
        self._plan = plan
        self._orders = orders()
        self.seen = seen

    async def play(self) -> None:
        """All rounds. Raises WrongPicture."""
        await self._warm_up()
        for number in range(self._plan.rounds):
            await self._solo()
            self.seen.forwards.append(self._networks.ask({"do": "time", "repeats": self._plan.forwards}))
            await self._batch(ours_first=number % 2 == 0)
        worst = max(self.seen.differences)
        if worst > MAX_DIFFERENCE:
            raise WrongPicture(f"a picture and the pipeline's are {worst} of 255 apart")

    async def _warm_up(self) -> None:
        for painter in (self._ours[0], self._theirs[0], self._theirs[0]):
            await painter.paint(next(self._orders))

    async def _solo(self) -> None:
        """A request at a time, the sides in turns."""
        seconds = [0.0, 0.0]
        for number, order in enumerate(self._take(self._plan.solo_pictures)):
            pictures = [b"", b""]
            for side in (0, 1) if number % 2 == 0 else (1, 0):
                painter = (self._ours, self._theirs)[side][0]
                began = time.perf_counter()
                pictures[side] = await painter.paint(order)
                seconds[side] += time.perf_counter() - began
            self.seen.differences.append(difference(*pictures))
        self.seen.solo_ours.append(seconds[0] / self._plan.solo_pictures)
        self.seen.solo_theirs.append(seconds[1] / self._plan.solo_pictures)

    async def _batch(self, *, ours_first: bool) -> None:
        """All at once, one side after the other."""
        wanted = self._take(AT_ONCE)
        if ours_first:
            ours, theirs = await at_once(self._ours, wanted), await at_once(self._theirs, wanted)
        else:
            theirs, ours = await at_once(self._theirs, wanted), await at_once(self._ours, wanted)
        self.seen.batch_ours.append(ours.seconds)
        self.seen.batch_theirs.append(theirs.seconds)
        self.seen.differences.extend(map(difference, ours.pictures, theirs.pictures))

    def _take(self, count: int) -> list[Order]:
        return list(islice(self._orders, count))


async def reactor_lag(server: Server, painters: Sequence[Painter], seconds: float) -> float:
    """How late the server's reactor was, by its own word, while everybody had another picture painted again and again."""
    end = time.monotonic() + seconds
    wanted = orders()

    async def customer(painter: Painter) -> None:
        while time.monotonic() < end:
            await painter.paint(next(wanted))

    await asyncio.gather(*map(customer, painters))
    return server.status().reactor_lag_p99_ms


async def measure(plan: Plan, threads: int) -> Seen:
    """Start what is needed when it is needed, and measure. The lag comes first: the server's meter starts anew at `ready`."""
    seen = Seen()
    with atelier(settings={"TORCH_THREADS": threads}) as server:
        ours = [await AtelierPainter.connect(server.port) for _ in range(AT_ONCE)]
        seen.reactor_lag_ms = await reactor_lag(server, ours, plan.lag_seconds)
        with (
            running("bench.peers.pipeline", str(DEMO_MODEL), str(threads)) as pipeline,
            running("bench.forwards", str(DEMO_MODEL), str(threads)) as networks,
        ):
            told = [pipeline.hear(), networks.hear()]
            if any(one["threads"] != threads for one in told):
                raise SystemExit(f"torch does not take {threads} threads: {told}")
            theirs = [await PipelinePainter.connect(told[0]["port"]) for _ in range(AT_ONCE)]
            await Match(ours, theirs, networks, plan, seen).play()
            seen.bare_lag_ms = networks.ask({"do": "lag", "seconds": plan.lag_seconds})["p99_ms"]
            hang_up([*ours, *theirs])
    return seen


def hang_up(painters: Sequence[Painter]) -> None:
    """Close the connections while somebody is there to hear it."""
    for painter in painters:
        painter.close()


def report(seen: Seen) -> dict[str, float]:
    """Tables, and the figures."""
    batch, ceiling = ratios(seen.batch_theirs, seen.batch_ours), Spread.of(seen.ceilings())
    print_table(
        ["seconds", "Atelier", "pipeline behind a lock", "ratio"],
        [
            _pair("one picture, alone", seen.solo_ours, seen.solo_theirs),
            _pair(f"{AT_ONCE} pictures, asked for at once", seen.batch_ours, seen.batch_theirs),
        ],
    )
    names = {
        "unet_2": "UNet, 2 rows",
        "unet_20": "UNet, 20 rows",
        "vae_1": "VAE, 1 picture",
        "vae_10": "VAE, 10 pictures",
    }
    bare = [[names[key], Spread.of(took[key] for took in seen.forwards).text(1, 1000)] for key in names]
    print_table(["bare networks", "ms"], bare)
    print_table(
        ["batching", "times"],
        [
            ["pictures a second, Atelier over the pipeline", batch.text(3)],
            ["ceiling, from the bare networks", ceiling.text(3)],
            ["of the ceiling, round by round", ratios(batch.values, ceiling.values).text(3)],
        ],
    )
    print_table(
        ["event loop's lag, p99", "ms"],
        [
            [f"Atelier's reactor, {AT_ONCE} requests at a time", f"{seen.reactor_lag_ms:.2f}"],
            ["bare asyncio loop beside UNet forwards", f"{seen.bare_lag_ms:.2f}"],
        ],
    )
    pairs = len(seen.differences)
    print(f"{pairs} pictures compared with the pipeline's: at most {max(seen.differences)} of 255 apart\n")
    return {
        "solo_ratio": ratios(seen.solo_ours, seen.solo_theirs).median,
        "batch_ratio": batch.median,
        "batch_ceiling": ceiling.median,
        "batch_of_ceiling": batch.median / ceiling.median,
        "reactor_lag_p99_ms": seen.reactor_lag_ms,
        "bare_lag_p99_ms": seen.bare_lag_ms,
    }


def _pair(name: str, ours: Sequence[float], theirs: Sequence[float]) -> list[str]:
    return [name, Spread.of(ours).text(3), Spread.of(theirs).text(3), ratios(ours, theirs).text(3)]


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="torch's, on every side")
    parser.add_argument("--quick", action="store_true", help="a smoke test: its figures mean nothing")
    given = parser.parse_args()
    end_on_sigterm()
    plan = Plan(rounds=given.rounds, solo_pictures=4, forwards=20, lag_seconds=20.0, joins=60)
    if given.quick:
        plan = Plan(rounds=1, solo_pictures=1, forwards=2, lag_seconds=2.0, joins=6)
    print_machine(["torch", "diffusers", "twisted"], threads=given.threads, OMP_WAIT_POLICY="passive")
    print(f"{SIZE} × {SIZE}, {STEPS} steps, guidance {GUIDANCE:g}; {plan.rounds} rounds, median (smallest – largest)\n")
    seen = asyncio.run(measure(plan, given.threads))
    worn = asyncio.run(styles.measure(plan.rounds, plan.joins, given.threads))
    print_figures(report(seen) | styles.report(worn, Spread.of(seen.ceilings())))


if __name__ == "__main__":
    main()
