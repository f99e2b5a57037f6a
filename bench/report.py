"""How figures are shown: medians with their spread, a table, and at the very end one line of JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import psutil

LOOKED = 2.0  # seconds in which to see what else is running
QUIET = 5.0  # % of the machine; what an idle system's own services take


@dataclass(frozen=True, slots=True)
class Spread:
    """What the rounds gave for one figure."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """The rounds' values, at least one."""
        return cls(tuple(values))

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.values)

    def text(self, digits: int = 0, factor: float = 1.0) -> str:
        """Median, then the smallest and the largest, each times `factor`."""
        low, high = min(self.values) * factor, max(self.values) * factor
        return f"{self.median * factor:,.{digits}f} ({low:,.{digits}f} – {high:,.{digits}f})"


def ratios(ours: Iterable[float], theirs: Iterable[float]) -> Spread:
    """Ours over theirs, round by round: what disturbs a whole round disturbs no ratio."""
    return Spread.of(our / their for our, their in zip(ours, theirs, strict=True))


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need to be: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    for row in (head, ["-" * width for width in widths], *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  ".join(cells).rstrip())
    print()


def print_machine(packages: Sequence[str], **more: object) -> None:
    """What the figures were measured on; a figure without it cannot be compared."""
    cores = sorted(os.sched_getaffinity(0))
    busy = psutil.cpu_percent(LOOKED)  # not the load average, which remembers the bench before this one
    print(f"{_processor()}, {len(cores)} cores, Python {platform.python_version()}, {busy:.0f} % busy before the start")
    print(
        ", ".join([f"{name} {version(name)}" for name in packages] + [f"{key} {value}" for key, value in more.items()])
    )
    if busy > QUIET:
        print("NOISY: something else is running on this machine; take these figures for a smoke test")
    print(flush=True)


def print_figures(figures: Mapping[str, float]) -> None:
    """The last line: three places, and three digits of what is smaller than that shows."""
    print(json.dumps({name: _rounded(value) for name, value in figures.items()}), flush=True)


def _rounded(value: float) -> float:
    return round(value, 3) if abs(value) >= 0.1 else float(f"{value:.3g}")


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()
