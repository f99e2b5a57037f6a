"""Writes the table of docs/metrics.md from the registry itself, so that it cannot fall behind.

python -m factory.metrics_page
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from twisted.internet import reactor as installed

from config import load_settings
from factory.service import make_service

PAGE = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"
BEGIN, END = "<!-- written by make docs: -->", "<!-- to here -->"
_NAMES = {"counter": "{}_total", "histogram": "{}_bucket, _sum, _count"}


def families() -> list[Any]:
    """Every family that a server tells, in the order in which they are told."""
    reactor: Any = installed
    return list(make_service(load_settings(), reactor).measuring.metrics.registry.collect())


def table(found: Iterable[Any]) -> str:
    """The families as a table, those of the process and of Python last."""
    rows = ["| name | what it is |", "|---|---|"]
    for family in sorted(found, key=lambda one: (not one.name.startswith("atelier_"), one.name)):
        shown = _NAMES.get(family.type, "{}").format(family.name)
        rows.append(f"| `{shown}` | {family.documentation} |")
    return "\n".join(rows)


def page(before: str, found: Iterable[Any]) -> str:
    """The page with its table made anew."""
    head, _, rest = before.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{table(found)}\n\n{END}{tail}"


def main() -> None:
    """Write it."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), families()), encoding="utf-8")


if __name__ == "__main__":
    main()
