"""`atelier usage`, `atelier quota`: what owners used, and how much they may, from the records."""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atelier.output import print_json
from atelier.records import Unusable, records, told
from atelier.running import say
from server.database.usage import own_quotas, set_quota, usage_lines
from server.metering.usage import DAY, By, Quota, UsageLine, UsageQuery, day_of

DAYS = 30


def show(owner: str, since: str, until: str, sums: Sequence[str], *, as_json: bool, as_csv: bool) -> int:
    """Print sums of the jobs that ended on these days; "" for the last DAYS of them, and for every owner."""
    by = [By(one) for one in dict.fromkeys(sums)]
    with told() as outcome:
        last = _day("--to", until) if until else int(time.time() // DAY)
        query = UsageQuery(
            owner=owner or None, since=_day("--from", since) if since else last - DAYS + 1, until=last, by=tuple(by)
        )
        with records() as connection:
            lines = usage_lines(connection, query)
        if as_json:
            print_json({"usage": [asdict(line) for line in lines]})
        elif as_csv:
            writer = csv.DictWriter(sys.stdout, list(UsageLine.__dataclass_fields__), lineterminator="\n")
            writer.writeheader()
            writer.writerows(asdict(line) for line in lines)
        elif lines:
            Console().print(_table(lines, by))
        else:
            say("none")
    return outcome.status


def quota(
    owner: str, pictures: int | None, cost: float | None, *, unlimited: bool, default: bool, as_json: bool
) -> int:
    """Give an owner a quota of their own, or take it back; without any of these print what there is."""
    changes = pictures is not None or cost is not None
    if unlimited + default + changes > 1 or (not owner and (unlimited or default or changes)):
        say("name an owner, and one of: --pictures and --cost, --unlimited, --default")
        return 2
    with told() as outcome:
        with records() as connection:
            if default or unlimited or changes:
                set_quota(connection, owner, None if default else Quota(pictures, cost))
                connection.commit()
            found = own_quotas(connection)
        if owner:
            found = {name: own for name, own in found.items() if name == owner}
        if as_json:
            print_json({"quotas": [{"owner": name, **asdict(own)} for name, own in found.items()]})
        for name, own in () if as_json else found.items():
            print(f"{name}: pictures a day {_shown(own.pictures)}, cost a day {_shown(own.cost)}")
        if not found and not as_json:
            say("as the settings say")
    return outcome.status


def _shown(limit: float | None) -> str:
    return "unlimited" if limit is None else f"{limit:g}"


def _day(option: str, text: str) -> int:
    try:
        return day_of(date.fromisoformat(text))
    except ValueError:
        raise Unusable(f"{option} must be a day such as 2026-11-21, not {text[:40]!r}") from None


def _table(lines: Sequence[UsageLine], by: Sequence[By]) -> Table:
    table = Table(box=None)
    names = [one.value for one in by]
    numbers = (
        "jobs",
        "succeeded",
        "failed",
        "canceled",
        "cached",
        "pictures",
        "tokens",
        "cost",
        "gpu_seconds",
        "price",
    )
    for name in names:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    for line in lines:
        values = asdict(line)
        table.add_row(*(escape(str(values[name])) for name in names), *(f"{values[name]:.6g}" for name in numbers))
    return table
