"""Soak: the same load for long, and whether anything of the server grows meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from bot.kinds.load import judged
from bot.ledger import Finding
from bot.regression import CONFIDENCE, Slope, slope_of
from bot.run import CannotRun, Run

WARM_UP = 0.2  # of the run, where nothing else is said: models, adapters and caches come into memory
NEGLIGIBLE = {
    "memory": 0.01,
    "threads": 0.0,
    "descriptors": 0.0,
    "latency": 0.1,
}  # growth over the run, as a share of the level
LONG_ENOUGH = 600.0  # seconds: allocators and caches fill for minutes
HOUR = 3600.0
SERIES = ("memory", "threads", "descriptors")


async def body(run: Run) -> dict[str, Any]:
    """One long shift, then the slopes."""
    options = run.options
    warm_up = WARM_UP * options.seconds if options.warm_up is None else options.warm_up
    if warm_up >= options.seconds:
        raise CannotRun(
            f"--warm-up: {warm_up:g} s leave nothing to judge of {options.seconds:g} s; give more --seconds"
        )
    run.doing = f"{options.profile.title}, for {options.seconds:g} s"
    began = run.now()
    figures, accounts = await run.shift(options.profile, options.seconds, idle_connections=options.idle_connections)
    run.findings += judged(options.profile.objectives, figures, accounts)
    ended = began + options.seconds
    warm = began + warm_up
    slopes = {}
    for name, kind, times, values in _series(run):
        kept = [(at, value) for at, value in zip(times, values, strict=True) if warm <= at <= ended]
        slope = slope_of([at for at, _ in kept], [value for _, value in kept])
        if slope is None:
            run.notes.append(f"{name}: too few figures after the warm-up to judge; soak for longer")
            continue
        slopes[name] = asdict(slope) | {"growth": slope.growth}
        run.findings.append(_finding(name, kind, slope))
    if options.seconds < LONG_ENOUGH:
        run.notes.append(f"{options.seconds:g} s are short for a soak: what grows may still be warming up")
    if not options.pids:
        run.notes.append(
            "memory, threads and descriptors were not watched: give the server's process, --pid server=PID"
        )
    return {"slopes": slopes, "warm_up_until": warm}


def _series(run: Run) -> Iterator[tuple[str, str, list[float], list[float | None]]]:
    """Name, kind, times, values."""
    columns = run.sampler.columns()
    times = columns.get("t", [])
    for name, values in columns.items():
        kind = name.rpartition(" ")[2]
        if kind in SERIES:
            yield name, kind, times, values
    if "device_memory" in columns:
        yield "device memory", "memory", times, columns["device_memory"]
    line = run.figures.timeline()
    yield "latency p50", "latency", line["t"], line["p50"]


def _finding(name: str, kind: str, slope: Slope) -> Finding:
    grows = slope.grows(NEGLIGIBLE[kind])
    interval = f"{_shown(slope.low, kind)} to {_shown(slope.high, kind)} an hour ({CONFIDENCE:.0%})"
    certain = "grows" if grows else "growth not distinguishable from none" if slope.low <= 0 else "grows negligibly"
    return Finding(f"{name} is steady", not grows, f"{certain}: {_shown(slope.slope, kind)} an hour, {interval}")


def _shown(slope: float, kind: str) -> str:
    an_hour = slope * HOUR
    if kind == "memory":
        return f"{an_hour / 1e6:+,.1f} MB"
    return f"{an_hour:+.2f} s" if kind == "latency" else f"{an_hour:+.1f}"
