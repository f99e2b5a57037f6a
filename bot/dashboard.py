"""What a person at the terminal sees while a run goes on: a live panel, or, where there is no terminal, a line now and then."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from bot.run import Run
from bot.waiting import pause

FRAME = 0.5  # seconds
LINE = 5.0  # seconds
SPARK = "▁▂▃▄▅▆▇█"
SPARKS = 60  # stretches shown


class Dashboard:
    """Looks at a run; stderr is its place, stdout is for results."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._console = Console(stderr=True)
        self._succeeded: list[int] = []
        self._lines: list[str] = []

    def say(self, text: str) -> None:
        """A line for the person."""
        if self._console.is_terminal:
            self._lines = [*self._lines[-3:], f"{self._run.now():6.1f} s  {text}"]
        else:
            print(text, file=sys.stderr, flush=True)  # noqa: T201

    async def show(self) -> None:
        """Until it is cancelled."""
        if not self._console.is_terminal:
            await self._lines_now_and_then()
            return
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while True:
                live.update(self.panel(), refresh=True)
                await pause(self._run.reactor, FRAME)

    async def _lines_now_and_then(self) -> None:
        while True:
            await pause(self._run.reactor, LINE)
            told = self._run.ticks()
            counts = told["counts"]
            came, succeeded, under_way, _ = self._words
            self.say(
                f"{self._run.now():5.0f} s  {counts.get('intended', 0)} {came}, {counts.get('succeeded', 0)} {succeeded}, "
                f"{told['under_way']} {under_way}, p99 {_seconds(told['p99'])}"
            )
            await asyncio.sleep(0)

    def panel(self) -> Panel:
        """How it stands."""
        run = self._run
        told = run.ticks()
        options = run.options
        share = min(run.now() / max(options.seconds, 0.1), 1.0)
        head = Text.assemble((run.doing or "coming in", "bold"), f"   {run.now():.0f} of about {options.seconds:.0f} s")
        parts: list[Any] = [head, ProgressBar(total=1.0, completed=share, width=SPARKS), self._table(told)]
        parts.append(Text(f"{self._words[1]} a second  {self._sparks(told)}", style="green"))
        parts += [Text(f"{fault.at:6.1f} s  {fault.do} {fault.what}", style="red") for fault in run.saboteur.done[-3:]]
        parts += [Text(line, style="yellow") for line in self._lines]
        return Panel(
            Group(*parts), title=f"{options.kind}: {options.profile.title}", subtitle="Ctrl-C stops, with a report"
        )

    def _table(self, told: dict[str, Any]) -> Table:
        counts, health = told["counts"], self._run.health
        came, succeeded, under_way, visits = self._words
        table = Table.grid(padding=(0, 3))
        table.add_row(
            f"{came} {counts.get('intended', 0)}",
            f"[green]{succeeded} {counts.get('succeeded', 0)}[/]",
            f"cancelled {counts.get('canceled', 0)}" if visits else "",
            f"[yellow]turned away {counts.get('refused', 0)}[/]" if visits else "",
            f"[red]failed {counts.get('failed', 0)} lost {counts.get('lost', 0)}[/]" if visits else "",
        )
        table.add_row(
            f"{under_way} {told['under_way']}",
            f"p50 {_seconds(told['p50'])}",
            f"p99 {_seconds(told['p99'])}",
            f"connections {told['connections']}",
            "",
        )
        table.add_row(
            f"batch {_shown(health.batch_size)}",
            f"running {_shown(health.jobs_running)}",
            f"waiting {_shown(health.jobs_waiting)}",
            f"reactor lag {_shown(health.reactor_lag_ms)} ms",
            "",
        )
        return table

    @property
    def _words(self) -> tuple[str, str, str, bool]:
        """What is counted, and whether it is visits."""
        if self._run.options.kind == "live":
            return "frames sent", "results", "sessions open", False
        return "came", "succeeded", "under way", True

    def _sparks(self, told: dict[str, Any]) -> str:
        self._succeeded = [*self._succeeded[-SPARKS:], told["counts"].get("succeeded", 0)]
        rates = [max(0, later - earlier) for earlier, later in zip(self._succeeded, self._succeeded[1:], strict=False)]
        most = max(rates, default=0) or 1
        return "".join(SPARK[rate * (len(SPARK) - 1) // most] for rate in rates)


def _seconds(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f} s" if value >= 0.1 else f"{value * 1e3:.1f} ms"


def _shown(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
