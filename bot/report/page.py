"""The page of a run, or of two: one HTML file with everything in it, the plotting library too. It needs no network."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from bot.report import charts

HERE = Path(__file__).resolve().parent
Record = dict[str, Any]


def _latency(record: Record, name: str, percent: str) -> float | None:
    value: float | None = record["latencies"].get(name, {}).get(percent)
    return value


def _live(record: Record) -> Record:
    told: Record = record["details"]["live"]
    return told


def _throughput(record: Record) -> float:
    """Over the time in which anything came out."""
    line = record["timeline"]
    busy = [at for at, rate in zip(line["t"], line["succeeded"], strict=True) if rate]
    span = busy[-1] - busy[0] + record["stretch"] if busy else 0.0
    return float(record["counts"]["succeeded"] / span) if span else 0.0


_CONFIG = {"displayModeBar": False, "responsive": True}
_TILES: tuple[tuple[str, Callable[[Record], str]], ...] = (  # label, what it is of a record
    ("came", lambda record: f"{record['counts']['intended']:,}"),
    ("succeeded", lambda record: f"{record['counts']['succeeded']:,}"),
    ("jobs a second", lambda record: f"{_throughput(record):.2f}"),
    ("accepted, p99", lambda record: seconds(_latency(record, "accepted", "p99"))),
    ("progress, p50", lambda record: seconds(_latency(record, "first_progress", "p50"))),
    ("result, p50", lambda record: seconds(_latency(record, "result", "p50"))),
    ("result, p99", lambda record: seconds(_latency(record, "result", "p99"))),
    ("turned away", lambda record: f"{record['counts']['refused']:,}"),
)
_LIVE_TILES: tuple[tuple[str, Callable[[Record], str]], ...] = (
    ("sessions", lambda record: f"{len(_live(record)['sessions']):,}"),
    ("frames sent", lambda record: f"{_live(record)['sent']:,}"),
    ("results", lambda record: f"{_live(record)['results']:,}"),
    ("frame to result, p50", lambda record: milliseconds(_latency(record, "frame", "p50"))),
    ("frame to result, p99", lambda record: milliseconds(_latency(record, "frame", "p99"))),
    ("dropped", lambda record: f"{_live(record)['dropped']:,}"),
    ("starved sessions", lambda record: f"{_live(record)['starved']:,}"),
    ("longest away", lambda record: seconds(_live(record)["longest_outage"])),
)
_CHARTS: tuple[tuple[str, Callable[[Record], Any]], ...] = (
    ("What came, and what came out", charts.rates),
    ("How long they waited", charts.latency_over_time),
    ("Steps of the stress", charts.steps),
    ("Sessions", charts.live_sessions),
    ("Latency by percentile", lambda record: charts.latency_curves([("", record)])),
    ("Batch and queue", charts.batch_and_queue),
    ("Memory", charts.memory),
    ("Threads and descriptors", charts.threads),
    ("Connections", charts.connections),
    ("Reactor lag", charts.lag),
)
_COMPARED: tuple[tuple[str, Callable[[Record], Any]], ...] = (
    ("came", lambda record: record["counts"]["intended"]),
    ("succeeded", lambda record: record["counts"]["succeeded"]),
    ("failed", lambda record: record["counts"]["failed"]),
    ("turned away", lambda record: record["counts"]["refused"]),
    ("lost", lambda record: record["counts"]["lost"]),
    ("jobs a second", _throughput),
    *(
        (f"{name.replace('_', ' ')}, {percent} (s)", partial(_latency, name=name, percent=percent))
        for name in ("accepted", "first_progress", "result", "frame")
        for percent in ("p50", "p99", "p99.9")
    ),
)  # fmt: skip


def page_of(record: Record) -> str:
    """One run."""
    drawn = [(title, chart(record)) for title, chart in _CHARTS]
    latencies = [(name.replace("_", " "), told) for name, told in record["latencies"].items()]
    return _render(
        "run.html.j2",
        record=record,
        tiles=[(label, value(record)) for label, value in (_LIVE_TILES if record["kind"] == "live" else _TILES)],
        charts=[(title, _div(figure)) for title, figure in drawn if figure is not None],
        latencies=latencies,
    )


def comparison_page(first: tuple[str, Record], second: tuple[str, Record]) -> str:
    """Two runs side by side, by their names."""
    runs = [first, second]
    figures = [
        ("Latency by percentile", charts.latency_curves(runs)),
        ("Result, p99, over the run", charts.timelines_side_by_side(runs, "p99", "seconds")),
        ("Jobs that succeeded", charts.timelines_side_by_side(runs, "succeeded", "a second")),
    ]
    return _render(
        "compare.html.j2",
        runs=runs,
        rows=comparison(first[1], second[1]),
        charts=[(title, _div(figure)) for title, figure in figures],
    )


def comparison(first: Record, second: Record) -> list[tuple[str, str, str, str]]:
    """What is compared, its value in each, and the second over the first."""
    rows = []
    for label, value in _COMPARED:
        one, other = value(first), value(second)
        ratio = f"{other / one:.2f}" if one and other is not None else ""
        rows.append((label, number(one), number(other), ratio))
    return rows


def number(value: float | None) -> str:
    """For people."""
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None:
        return "–"
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def milliseconds(value: float | None) -> str:
    """A duration of a few milliseconds."""
    return "–" if value is None else f"{value * 1000:.1f} ms"


def _div(figure: Any) -> Markup:
    return Markup(figure.to_html(full_html=False, include_plotlyjs=False, config=_CONFIG))  # noqa: S704  # plotly escapes


def _render(name: str, **values: Any) -> str:
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["seconds"] = seconds
    script = Markup(get_plotlyjs())  # noqa: S704  # the library itself
    return environment.get_template(name).render(plotly=script, **values)
