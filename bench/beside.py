"""Ten users with ten styles, who come when they please: Atelier beside LitServe, Ray Serve, and plain FastAPI with a lock.

    python -m bench.beside [--seconds N] [--rate N] [--sides NAME,…] [--tune]

The demo model, 128 × 128, 20 steps, guidance 4. All sides get the same prompts, seeds, styles and moments (an open loop: a
Poisson process of one seed), sign every picture with the same code, and write it as PNG to the disk. One side runs at a time.
Latency counts from the moment a visitor meant to come; who waited longer than --patience has failed, and counts with that time.

    vs_best_peer_throughput  our pictures a second over the best peer's
    vs_best_peer_p99         our p99 over the best peer's; less is better
    per_peer                 of every side, with its settings: pictures_per_second, p50, p99, failures, and cancel_to_free:
                             ten callers hang up in the middle, and one asks at once: the seconds he waits longer than one
                             who asks alone

Without --rate, visitors come at RATE times what Atelier makes of ten requests at a time, measured first. `--tune` tries the
peers' workers, threads and batch sizes instead, with ten requests at a time; SETTINGS are what came out best.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from bench import wardrobe
from bench.asking import Ask, ask_atelier, ask_http
from bench.atelier_server import atelier
from bench.children import ChildFailed, end_on_sigterm, free_port, running
from bench.painting import Order, WrongPicture, orders
from bench.peers import environment
from bench.report import print_machine, print_table
from bot.arrivals import thinned
from config.settings import DEMO_MODEL

USERS = wardrobe.COUNT
RATE = 0.8  # of Atelier's pace with ten at a time: what it can keep up with, a little short of its most
ALONE = 3  # pictures
GIVEN_UP_AFTER = 0.3  # seconds: somewhere in the middle of a picture, on every side
READY_LIMIT = 150.0  # seconds; Ray starts a small cluster
CLEARED_WITHIN = 120.0  # seconds that a side may need until what nobody waits for is painted
SEED = 11
OURS = "Atelier"


@dataclass(frozen=True, slots=True)
class Settings:
    """Of a peer. `batch` 1 is no batching; `wait` seconds for a batch to fill."""

    workers: int
    threads: int
    batch: int
    wait: float = 0.05

    def text(self) -> str:
        """For people."""
        batch = f"batches of {self.batch} within {self.wait:g} s" if self.batch > 1 else "no batches"
        return f"{self.workers} worker(s) of {self.threads} thread(s), {batch}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A server that people build, as a module of bench.peers."""

    name: str
    module: str
    needs: str  # what its environment has to import
    lock: bool = False  # one picture at a time: there is nothing to batch


PEERS = (
    Peer("LitServe", "bench.peers.litserve_api", "litserve"),
    Peer("Ray Serve", "bench.peers.ray_serve", "ray.serve"),
    Peer("FastAPI with a lock", "bench.peers.fastapi_lock", "fastapi", lock=True),
)
SETTINGS = {
    "LitServe": Settings(workers=2, threads=1, batch=10),
    "Ray Serve": Settings(workers=2, threads=1, batch=10, wait=0.2),
    "FastAPI with a lock": Settings(workers=1, threads=1, batch=1),
}
CANDIDATES = (
    Settings(1, 1, 10), Settings(1, 2, 10), Settings(2, 1, 1), Settings(2, 1, 4), Settings(2, 1, 10), Settings(2, 1, 10, 0.2),
)  # fmt: skip
LOCKED = (Settings(1, 1, 1), Settings(1, 2, 1))


@dataclass(slots=True)
class Seen:
    """One side's figures; seconds."""

    settings: str
    pictures_per_second: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    asked: int = 0
    failures: int = 0
    cancel_to_free: float = 0.0
    latencies: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the last line."""
        told = {name: value for name, value in asdict(self).items() if name != "latencies"}
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in told.items()}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What all sides get."""

    names: Sequence[str]
    rate: float
    seconds: float
    patience: float


class Stage:
    """The folders of a run, and how a side is put on."""

    def __init__(self, folder: Path) -> None:
        self.made, self.peers, self.keep = folder / "made", folder / "peers", folder / "keep"
        self.made.mkdir()
        self.keep.mkdir()
        self.names, _ = wardrobe.gather(self.made)
        wardrobe.as_diffusers(self.names, self.made, self.peers)

    @contextmanager
    def ours(self) -> Iterator[Ask]:
        """Atelier as a user starts it."""
        with atelier(settings={"ADAPTERS_DIR": self.made}) as server:
            yield partial(ask_atelier, server.port)

    @contextmanager
    def peer(self, peer: Peer, settings: Settings, python: str) -> Iterator[Ask]:
        """A peer. It may not be ready yet."""
        port = free_port()
        arguments = [str(DEMO_MODEL), str(settings.threads), str(self.peers), str(port), "--keep", str(self.keep)]
        if not peer.lock:
            batching = {"--workers": settings.workers, "--batch": settings.batch, "--wait": settings.wait}
            arguments += [str(word) for pair in batching.items() for word in pair]
        with running(peer.module, *arguments, python=python) as child:
            _until_it_paints(partial(ask_http, port), next(orders(self.names)), child.check)
            yield partial(ask_http, port)


def _until_it_paints(ask: Ask, order: Order, check: Callable[[], None]) -> None:
    """Ask for a picture until there is one. Raises ChildFailed, WrongPicture."""

    async def asked() -> None:
        end = time.monotonic() + READY_LIMIT
        while True:
            check()
            try:
                await asyncio.wait_for(ask(order), READY_LIMIT)
            except (OSError, WrongPicture):
                if time.monotonic() > end:
                    raise WrongPicture(f"it did not paint within {READY_LIMIT:g} s") from None
                await asyncio.sleep(0.5)
            else:
                return

    asyncio.run(asked())


async def all_at_once(ask: Ask, names: Sequence[str]) -> float:
    """Pictures a second when all users ask at the same moment."""
    began = time.monotonic()
    await asyncio.gather(*map(ask, islice(orders(names), USERS)))
    return USERS / (time.monotonic() - began)


async def pace(ask: Ask, names: Sequence[str]) -> float:
    """The same, warmed up; the better of two."""
    await all_at_once(ask, names)
    return max([await all_at_once(ask, names) for _ in range(2)])


async def visited(ask: Ask, traffic: Traffic, seen: Seen) -> None:
    """The traffic, and what became of it."""
    await all_at_once(ask, traffic.names)  # styles are in memory before anything counts
    wanted, began = orders(traffic.names), time.monotonic()
    visits: list[asyncio.Task[float]] = []
    for at in thinned(lambda _: traffic.rate, traffic.rate, SEED, traffic.seconds):
        await asyncio.sleep(max(0.0, began + at - time.monotonic()))
        visits.append(asyncio.ensure_future(_visit(ask, next(wanted), began + at, traffic.patience)))
    took = await asyncio.gather(*visits)
    over = time.monotonic()
    good = [seconds for seconds in took if seconds < traffic.patience]
    seen.asked, seen.failures = len(took), len(took) - len(good)
    seen.latencies = sorted(took)
    seen.pictures_per_second = len(good) / (max(over, began + traffic.seconds) - began)
    seen.p50, seen.p99 = statistics.median(took), seen.latencies[min(len(took) - 1, int(0.99 * len(took)))]


async def _visit(ask: Ask, order: Order, intended: float, patience: float) -> float:
    """Seconds from the intended moment; `patience` for one who had no picture by then."""
    try:
        await asyncio.wait_for(ask(order), patience - (time.monotonic() - intended))
    except (OSError, WrongPicture, TimeoutError):
        return patience
    return min(patience, time.monotonic() - intended)


async def cancel_to_free(ask: Ask, names: Sequence[str]) -> float:
    """Seconds that somebody waits longer than alone, because ten hung up just before."""
    await _until_idle(ask, names)
    alone = []
    for order in islice(orders(names), ALONE):
        began = time.monotonic()
        await ask(order)
        alone.append(time.monotonic() - began)
    leaving = [asyncio.ensure_future(ask(order)) for order in islice(orders(names), USERS)]
    await asyncio.sleep(GIVEN_UP_AFTER)
    for task in leaving:
        task.cancel()
    await asyncio.gather(*leaving, return_exceptions=True)
    began = time.monotonic()
    await asyncio.wait_for(ask(next(orders(names))), CLEARED_WITHIN)
    return max(0.0, time.monotonic() - began - statistics.median(alone))


async def _until_idle(ask: Ask, names: Sequence[str]) -> None:
    """Peers go on painting for those who have left; what that costs the next is another figure."""
    end, best = time.monotonic() + CLEARED_WITHIN, float("inf")
    while time.monotonic() < end:
        began = time.monotonic()
        await ask(next(orders(names)))
        took = time.monotonic() - began
        if took < 1.5 * best < float("inf"):
            return
        best = min(best, took)


async def _measured(ask: Ask, traffic: Traffic, settings: str) -> Seen:
    seen = Seen(settings)
    await visited(ask, traffic, seen)
    seen.cancel_to_free = await cancel_to_free(ask, traffic.names)
    return seen


def measure(given: argparse.Namespace, stage: Stage, python: str) -> dict[str, Seen | str]:
    """Every side by its name: its figures, or why it was not measured."""
    seen: dict[str, Seen | str] = {}
    with stage.ours() as ask:
        rate = given.rate or RATE * asyncio.run(pace(ask, stage.names))
        traffic = Traffic(stage.names, rate, given.seconds, given.patience)
        print(
            f"{rate:.2f} visitors a second for {given.seconds:g} s, who wait {given.patience:g} s at most\n", flush=True
        )
        seen[OURS] = asyncio.run(_measured(ask, traffic, "as it is started"))
    for peer in PEERS:
        if given.sides and peer.name not in given.sides.split(","):
            seen[peer.name] = "not asked for"
            continue
        why_not = environment.has(python, peer.needs)
        if why_not:
            seen[peer.name] = why_not
            continue
        settings = SETTINGS[peer.name]
        try:
            with stage.peer(peer, settings, python) as ask:
                seen[peer.name] = asyncio.run(_measured(ask, traffic, settings.text()))
        except (ChildFailed, WrongPicture, TimeoutError) as error:
            seen[peer.name] = str(error) or type(error).__name__
    return seen


def tune(stage: Stage, python: str, sides: Sequence[str]) -> None:
    """What each peer makes of ten requests at a time with each of the candidates."""
    rows = []
    for peer in PEERS:
        if sides and peer.name not in sides:
            continue
        for settings in LOCKED if peer.lock else CANDIDATES:
            try:
                with stage.peer(peer, settings, python) as ask:
                    found = f"{asyncio.run(pace(ask, stage.names)):.2f}"
            except (ChildFailed, WrongPicture, TimeoutError) as error:
                found = str(error)[:60]
            rows.append([peer.name, settings.text(), found])
            print(*rows[-1], flush=True)
    print_table(["peer", "settings", "pictures a second, ten at a time"], rows)


def report(seen: Mapping[str, Seen | str]) -> dict[str, Any]:
    """A table, and the last line."""
    rows = []
    for name, side in seen.items():
        if isinstance(side, str):
            rows.append([name, f"not measured: {side[:100]}", *[""] * 5])
        else:
            figures = (side.pictures_per_second, side.p50, side.p99, side.cancel_to_free)
            rate, p50, p99, free = (f"{figure:.2f}" for figure in figures)
            rows.append([name, side.settings, rate, p50, p99, f"{side.failures} of {side.asked}", free])
    print_table(["", "settings", "pictures/s", "p50, s", "p99, s", "failures", "cancel to free, s"], rows)
    ours, peers = seen[OURS], [side for name, side in seen.items() if name != OURS and isinstance(side, Seen)]
    assert isinstance(ours, Seen)
    told = {name: {"not_measured": side} if isinstance(side, str) else side.as_json() for name, side in seen.items()}
    best = max((peer.pictures_per_second for peer in peers), default=None)
    quickest = min((peer.p99 for peer in peers), default=None)
    return {
        "vs_best_peer_throughput": round(ours.pictures_per_second / best, 3) if best else None,
        "vs_best_peer_p99": round(ours.p99 / quickest, 3) if quickest else None,
        "per_peer": told,
    }


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="that visitors come, on each side")
    parser.add_argument("--rate", type=float, default=0.0, help="visitors a second")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds after which a visitor has failed")
    parser.add_argument("--sides", default="", help="peers' names with commas between them; empty: all")
    parser.add_argument("--tune", action="store_true", help="try the peers' settings")
    given = parser.parse_args()
    end_on_sigterm()
    print_machine(["torch", "diffusers", "twisted"], OMP_WAIT_POLICY="passive")
    python = environment.python()
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        stage = Stage(Path(folder))
        if given.tune:
            tune(stage, python, list(filter(None, given.sides.split(","))))
            return
        figures = report(measure(given, stage, python))
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
