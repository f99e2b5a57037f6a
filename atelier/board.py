"""How many jobs of different kinds are shown together: who waits, is painted, parked, cancelled and done.

A live table on a terminal; elsewhere a line whenever a job joins, is parked, goes on or ends. The server is asked nothing:
what stands here is what the jobs themselves say.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from atelier.running import say
from server import events
from server.events import Phase

BAR_WIDTH = 12  # characters, so that a line fits into 110 columns


class State(StrEnum):
    """Where a job stands, in words for people."""

    NOT_SENT = ""
    WAITS = "waits"
    PAINTED = "painted"
    PARKED = "parked"
    FINISHING = "finishing"
    DONE = "done"
    CANCELED = "cancelled"
    FAILED = "failed"


_STATES = {Phase.PARKED: State.PARKED, Phase.DECODING: State.FINISHING, Phase.FINISHING: State.FINISHING}
_ENDS = {"succeeded": State.DONE, "canceled": State.CANCELED}
_STYLES = {
    State.PAINTED: "green", State.PARKED: "yellow", State.FINISHING: "cyan", State.CANCELED: "magenta", State.FAILED: "red",
}  # fmt: skip


@dataclass(slots=True)
class Line:
    """One job on the board. `columns` say what it is."""

    columns: tuple[str, ...]
    state: State = State.NOT_SENT
    step: int = 0
    steps: int = 0
    parked: int = 0  # times


@dataclass(slots=True)
class Board:
    """All jobs. `headings` name the columns of its lines."""

    headings: Sequence[str]
    lines: list[Line]
    live: Live | None = None
    most_painted: int = 0
    _waiters: list[tuple[int, asyncio.Future[None]]] = field(default_factory=list)

    def part(self, numbers: Iterable[int]) -> Part:
        """A display for the jobs of these numbers, which are added in this order."""
        return Part(self, numbers)

    def move(self, number: int, state: State, step: int = 0, steps: int = 0) -> None:
        """A job stands somewhere else now."""
        line = self.lines[number]
        before, line.state = line.state, state
        if steps:
            line.step, line.steps = step, steps
        line.parked += state is State.PARKED and before is not State.PARKED
        self.most_painted = max(self.most_painted, self.counts[State.PAINTED])
        if self.live is not None:
            self.live.update(self.table())
        elif state is not before and (word := _word(before, state)):
            say(
                f"{' '.join(filter(None, line.columns))}: {word}"
                + (f" at step {line.step} of {line.steps}" if line.steps else "")
            )
        self._wake()

    async def until(self, steps: int) -> None:
        """Until the jobs have made so many steps together, or all that were sent have ended."""
        if self._made < steps:
            future = asyncio.get_running_loop().create_future()
            self._waiters.append((steps, future))
            await future

    @property
    def counts(self) -> Counter[State]:
        """How many jobs stand where."""
        return Counter(line.state for line in self.lines)

    def table(self) -> Table:
        """The board as it stands."""
        counts = self.counts
        title = ", ".join(f"{counts[state]} {state}" for state in State if state and counts[state])
        table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), header_style="dim")
        for heading in self.headings:
            table.add_column(heading, no_wrap=True)
        for heading, width in (("state", len(State.CANCELED)), ("steps", 5), ("", BAR_WIDTH)):
            table.add_column(heading, no_wrap=True, min_width=width)
        for line in self.lines:
            style = _STYLES.get(line.state, "dim")
            made = f"{line.step}/{line.steps}" if line.steps else ""
            table.add_row(*map(escape, line.columns), f"[{style}]{line.state}", made, f"[{style}]{_bar(line)}")
        return table

    @property
    def _made(self) -> int:
        return sum(line.step for line in self.lines)

    def _wake(self) -> None:
        idle = not any(line.state in (State.WAITS, State.PAINTED, State.PARKED) for line in self.lines)
        for steps, future in self._waiters:
            if (self._made >= steps or idle) and not future.done():
                future.set_result(None)
        self._waiters = [(steps, future) for steps, future in self._waiters if not future.done()]

    def __enter__(self) -> Self:
        console = Console()
        if console.is_terminal:
            self.live = Live(self.table(), console=console, refresh_per_second=10)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()


class Part:
    """Some jobs of a board, as an `atelier.display.Display`."""

    def __init__(self, board: Board, numbers: Iterable[int]) -> None:
        self._board = board
        self._left = iter(numbers)

    def add(self, prompt: str) -> int:
        """The next job of these is sent."""
        number = next(self._left)
        self._board.move(number, State.WAITS)
        return number

    def show(self, row: int, event: events.Event) -> None:
        """Something happened to a job."""
        if isinstance(event, events.Progress):
            state = _STATES.get(event.phase, State.PAINTED)
            self._board.move(row, state, event.step, event.total_steps)

    def finish(self, row: int, word: str) -> None:
        """The job has ended."""
        self._board.move(row, _ENDS.get(word, State.FAILED))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The board ends itself."""


def _word(before: State, after: State) -> str:
    """What a change is called; "" for one that is worth no line."""
    if after is State.PAINTED:
        return "goes on" if before is State.PARKED else "joins"
    return {
        State.PARKED: "is parked",
        State.DONE: "is done",
        State.CANCELED: "is cancelled",
        State.FAILED: "failed",
    }.get(after, "")


def _bar(line: Line) -> str:
    full = math.floor(BAR_WIDTH * line.step / line.steps) if line.steps else 0
    return "━" * full
