"""What a person sees meanwhile has the figures of all processes, the faults, and what was told."""

from __future__ import annotations

import asyncio
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from bot.crew import added
from bot.dashboard import Dashboard
from bot.faults import Done
from bot.run import Run
from tests.bot.asked import options

TICK = {"counts": {"intended": 5, "succeeded": 3}, "under_way": 2, "connections": 4, "p50": 0.5, "p99": 1.5}


async def test_the_panel_shows_the_run(reactor: Any, tmp_path: Path) -> None:
    """Counts, percentiles, a fault and a line that was told."""
    run = Run(reactor, options("load", "tcp:127.0.0.1:1", tmp_path), asyncio.Event(), lambda text: None)
    run.doing = "raising the rate"
    run.saboteur.done.append(Done(3.0, "kill", "server"))
    run.crew.ticks = lambda: [TICK, {**TICK, "p99": 2.5}]  # type: ignore[method-assign]
    dashboard = Dashboard(run)
    dashboard._console = Console(force_terminal=True)
    dashboard.say("no connection to it")
    console = Console(width=120, record=True, file=StringIO())
    console.print(dashboard.panel())
    shown = console.export_text()
    for text in (
        "load: plain",
        "raising the rate",
        "came 10",
        "succeeded 6",
        "p99 2.50 s",
        "kill server",
        "no connection to it",
    ):
        assert text in shown


def test_ticks_add_up() -> None:
    """Numbers are summed, of percentiles the worst is shown, and nothing is nothing."""
    whole = added([TICK, TICK])
    assert whole["counts"] == {"intended": 10, "succeeded": 6}
    assert (whole["under_way"], whole["p99"]) == (4, 1.5)
    assert added([])["p99"] is None
