"""How jobs are shown while they are painted: live bars on a terminal, a few lines elsewhere, nothing beside JSON."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from atelier.running import say
from server import events

PROMPT_WIDTH = 44  # characters, so that bar, steps and time fit beside it in 100 columns


class Display(Protocol):
    """Rows of jobs. Used as a context: what is live ends with it."""

    def add(self, prompt: str) -> int:
        """A new row; gives its number."""
        ...

    def show(self, row: int, event: events.Event) -> None:
        """Something happened to a row's job."""
        ...

    def finish(self, row: int, word: str) -> None:
        """The job has ended ("succeeded", "failed", "canceled", "refused")."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Quiet:
    """Shows nothing."""

    def add(self, prompt: str) -> int:
        """No row."""
        return 0

    def show(self, row: int, event: events.Event) -> None:
        """Nothing."""

    def finish(self, row: int, word: str) -> None:
        """Nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""


class Lines(Quiet):
    """A line when a job is accepted, at each quarter, and at its end; on stderr, so that stdout holds the results alone."""

    def __init__(self) -> None:
        self._prompts: list[str] = []
        self._quarters: list[int] = []

    def add(self, prompt: str) -> int:
        """A new row."""
        self._prompts.append(shortened(prompt))
        self._quarters.append(0)
        return len(self._prompts) - 1

    def show(self, row: int, event: events.Event) -> None:
        """Say it if it is worth a line."""
        if isinstance(event, events.Accepted):
            say(f"{self._prompts[row]}: accepted as {event.job_id}")
        elif isinstance(event, events.Progress) and int(event.fraction * 4) > self._quarters[row]:
            self._quarters[row] = int(event.fraction * 4)
            say(f"{self._prompts[row]}: {event.phase.value} {event.step}/{event.total_steps}, {event.fraction:.0%}")

    def finish(self, row: int, word: str) -> None:
        """Say it."""
        say(f"{self._prompts[row]}: {word}")


class Bars:
    """A live bar a job."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[phase]:<10}", style="cyan"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[steps]:>7}"),
            TextColumn("{task.percentage:>4.0f}%"),
            TextColumn("{task.fields[eta]:>7}", style="dim"),
            console=console,
        )

    def add(self, prompt: str) -> int:
        """A new bar."""
        name = f"{escape(shortened(prompt)):<{PROMPT_WIDTH}}"
        return self._progress.add_task(name, total=1.0, phase="sending", steps="", eta="")

    def show(self, row: int, event: events.Event) -> None:
        """Move the bar."""
        if isinstance(event, events.Accepted):
            self._progress.update(TaskID(row), phase="queued")
        elif isinstance(event, events.Progress):
            self._progress.update(
                TaskID(row),
                completed=event.fraction,
                phase=event.phase.value,
                steps=f"{event.step}/{event.total_steps}",
                eta=f"{event.eta_seconds:.1f} s" if event.eta_seconds else "",
            )

    def finish(self, row: int, word: str) -> None:
        """Bring the bar to its end, or leave it where the job ended."""
        task = TaskID(row)
        if word == "succeeded":
            self._progress.update(task, completed=1.0, phase="done", eta="")
        else:
            self._progress.update(task, phase=f"[red]{word}", eta="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def display_for(*, as_json: bool) -> Display:
    """What suits where stdout goes."""
    if as_json:
        return Quiet()
    return Bars(Console()) if sys.stdout.isatty() else Lines()


def shortened(prompt: str, width: int = PROMPT_WIDTH) -> str:
    """A prompt that fits its column, on one line."""
    line = " ".join(prompt.split())
    return line if len(line) <= width else f"{line[: width - 1]}…"
