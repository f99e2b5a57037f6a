"""Two records side by side: a table on the terminal, and a page."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.table import Table

from bot.report.page import comparison, comparison_page
from bot.report.record import read_record
from bot.report.writing import prepare, write_text


def compare_files(first: Path, second: Path, out: Path) -> None:
    """Read, tell and draw. Raises CannotRead, CannotWrite."""
    records = [read_record(path) for path in (first, second)]
    names = [path.stem for path in (first, second)]
    table = Table(box=None)
    for heading in ("", *names, "second over first"):
        table.add_column(heading, justify="right" if heading else "left")
    for row in comparison(*records):
        table.add_row(*row)
    console = Console(soft_wrap=True)
    console.print(table)
    prepare(out.parent)
    write_text(out, comparison_page((names[0], records[0]), (names[1], records[1])))
    console.print(str(out))
