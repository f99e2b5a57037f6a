"""The charts of a page, by plotly: each a figure that reads the record's columns. Colours are chosen once, for light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from math import log10
from typing import Any

import plotly.graph_objects as go

INK, FAINT, PAPER = "#1f2430", "#e6e8ee", "#ffffff"
COLOURS = {
    "succeeded": "#2f9e6e", "failed": "#d64545", "canceled": "#8a93a6", "refused": "#e0a030", "lost": "#a01ea0",
    "unsent": "#5a2d82", "intended": "#1f2430", "p50": "#3b6fd4", "p99": "#d1495b", "accepted_p99": "#6aa5a9",
}  # fmt: skip
SERIES = ("#3b6fd4", "#d1495b", "#2f9e6e", "#e0a030", "#7a5cc0", "#4a9ab0", "#8a6d3b", "#c04b8f")
ENDS = ("succeeded", "canceled", "refused", "failed", "lost", "unsent")
FONT = "Inter, 'Segoe UI', system-ui, sans-serif"
HEIGHT = 300
FAULTS = {"kill": "killed", "terminate": "ended", "pause": "paused"}

Record = dict[str, Any]


def _figure(title_y: str, *, height: int = HEIGHT, log_y: bool = False) -> Any:
    figure = go.Figure()
    figure.update_layout(
        height=height, margin={"l": 58, "r": 16, "t": 16, "b": 40}, paper_bgcolor=PAPER, plot_bgcolor=PAPER,
        font={"family": FONT, "size": 12, "color": INK}, hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )  # fmt: skip
    figure.update_xaxes(gridcolor=FAINT, zeroline=False, title_text="seconds of the run")
    figure.update_yaxes(gridcolor=FAINT, zeroline=False, rangemode="tozero", title_text=title_y)
    if log_y:
        figure.update_yaxes(type="log")
    return figure


def _line(
    figure: Any, name: str, x: Sequence[Any], y: Sequence[Any], colour: str, *, dash: str = "solid", width: float = 2
) -> None:
    line = {"color": colour, "width": width, "dash": dash}
    figure.add_trace(go.Scatter(x=list(x), y=list(y), name=name, mode="lines", line=line, connectgaps=False))


def _mark_faults(figure: Any, record: Record) -> Any:
    """A band from each fault's beginning to its end, with its name."""
    for fault in record["faults"]:
        until = fault["until"] if fault["until"] is not None else fault["at"]
        figure.add_vrect(
            x0=fault["at"], x1=max(until, fault["at"] + 0.05), fillcolor="#d1495b", opacity=0.13, line_width=0
        )
        figure.add_vline(x=fault["at"], line={"color": "#d1495b", "width": 1.5, "dash": "dot"})
        figure.add_annotation(
            x=fault["at"], y=1, yref="paper", yanchor="top", xanchor="left", showarrow=False,
            text=f" {fault['what']} {FAULTS[fault['do']]}", font={"color": "#b03040", "size": 11},
        )  # fmt: skip
    return figure


def rates(record: Record) -> Any:
    """Who came, and how they came out."""
    line = record["timeline"]
    live = record["kind"] == "live"
    figure = _figure("frames a second" if live else "visits a second")
    figure.update_layout(barmode="stack", bargap=0.12)
    for name in ENDS:
        if any(line[name]):
            figure.add_trace(
                go.Bar(
                    x=line["t"],
                    y=line[name],
                    name="results" if live else name,
                    marker={"color": COLOURS[name], "line_width": 0},
                )
            )
    trace = go.Scatter(
        x=line["t"], y=line["intended"], name="frames sent" if live else "meant to come", mode="lines",
        line={"color": COLOURS["intended"], "width": 1.5, "dash": "dot", "shape": "hvh"},
    )  # fmt: skip
    figure.add_trace(trace)
    return _mark_faults(figure, record)


def latency_over_time(record: Record) -> Any:
    """How long people waited, by when they got their picture."""
    line = record["timeline"]
    figure = _figure("seconds")
    for name, label in (("p99", "result, p99"), ("p50", "result, p50"), ("accepted_p99", "accepted, p99")):
        if all(value is None for value in line[name]):
            continue
        trace = go.Scatter(
            x=line["t"], y=line[name], name=label, mode="lines+markers", connectgaps=True,
            marker={"size": 4}, line={"color": COLOURS[name], "width": 2},
        )  # fmt: skip
        figure.add_trace(trace)
    return _mark_faults(figure, record)


def latency_curves(records: Sequence[tuple[str, Record]]) -> Any:
    """Percentiles on an axis that shows the far end: each step to the right leaves a tenth of the visitors."""
    figure = _figure("seconds", log_y=True)
    labels = {
        "result": "result",
        "first_progress": "first progress",
        "accepted": "accepted",
        "frame": "frame to result",
    }
    for number, (who, record) in enumerate(records):
        for place, (name, label) in enumerate(labels.items()):
            if name not in record["latencies"]:
                continue
            percents, seconds = record["latencies"][name]["curve"]
            kept = [(_nines(percent), second) for percent, second in zip(percents, seconds, strict=True) if percent]
            title = f"{label} ({who})" if who else label
            dash = ("solid", "dash")[number % 2]
            _line(figure, title, [at for at, _ in kept], [second for _, second in kept], SERIES[place], dash=dash)
    ticks = (50, 75, 90, 95, 99, 99.9)
    figure.update_xaxes(
        title_text="percent", tickvals=[_nines(tick) for tick in ticks], ticktext=[f"{tick:g}" for tick in ticks],
        range=[0, _nines(99.95)],
    )  # fmt: skip
    figure.update_layout(hovermode="closest")
    return figure


def _nines(percent: float) -> float:
    return -log10(1 - min(percent, 99.99) / 100)


def batch_and_queue(record: Record) -> Any | None:
    """What the server said of its engine."""
    names = {"batch_size": "in the batch", "jobs_running": "jobs running", "jobs_waiting": "jobs waiting"}
    return _of_samples(record, names, "jobs, pictures")


def connections(record: Record) -> Any | None:
    """How many are there, and how late the server's reactor is."""
    return _of_samples(record, {"connections": "connections"}, "connections")


def lag(record: Record) -> Any | None:
    """How late the server's reactor is."""
    return _of_samples(record, {"reactor_lag_ms": "reactor lag, p99 of a minute"}, "milliseconds")


def memory(record: Record) -> Any | None:
    """Of the processes that were watched, and of the device."""
    names = {name: name for name in record["samples"] if name.endswith(" memory")}
    names |= {"device_memory": "device: models, adapters, latents"} if "device_memory" in record["samples"] else {}
    return _of_samples(record, names, "MB", scale=1e-6)


def threads(record: Record) -> Any | None:
    """Threads and descriptors of the processes that were watched."""
    names = {name: name for name in record["samples"] if name.endswith((" threads", " descriptors"))}
    return _of_samples(record, names, "count")


def _of_samples(record: Record, names: dict[str, str], unit: str, scale: float = 1.0) -> Any | None:
    samples = record["samples"]
    present = {name: label for name, label in names.items() if any(v is not None for v in samples.get(name, ()))}
    if not present:
        return None
    figure = _figure(unit)
    for number, (name, label) in enumerate(present.items()):
        values = [value * scale if value is not None else None for value in samples[name]]
        _line(figure, label, samples["t"], values, SERIES[number % len(SERIES)])
    return _mark_faults(figure, record)


def steps(record: Record) -> Any | None:
    """Stress: the rate against what it was like."""
    taken = [
        step for step in record["details"].get("steps", ()) if step["p99"] is not None and step["what"] != "overload"
    ]
    if not taken:
        return None
    taken.sort(key=lambda step: float(step["rate"]))
    figure = _figure("seconds", log_y=True)
    rates = [step["rate"] for step in taken]
    for name, label in (("p99", "result, p99"), ("p50", "result, p50")):
        trace = go.Scatter(
            x=rates, y=[step[name] for step in taken], name=label, mode="lines+markers",
            line={"color": COLOURS[name], "width": 2},
            marker={"size": 9, "symbol": ["circle" if step["held"] else "x" for step in taken]},
        )  # fmt: skip
        figure.add_trace(trace)
    figure.add_hline(y=record["details"]["objective_p99_seconds"], line={"color": INK, "dash": "dot", "width": 1})
    if record["details"]["knee_rate"]:
        figure.add_vline(
            x=record["details"]["knee_rate"], line={"color": "#2f9e6e", "width": 2}, annotation_text="the knee"
        )
    figure.update_xaxes(title_text="visitors a second")
    figure.update_layout(hovermode="closest")
    return figure


def live_sessions(record: Record) -> Any | None:
    """Live: each session's longest gap, the longest first, and how long those were away that were opened again."""
    told = record["details"].get("live")
    if told is None:
        return None
    figure = _figure("seconds")
    gaps = sorted((one["longest_gap"] for one in told["sessions"]), reverse=True)
    _line(figure, "longest gap between two results", range(1, len(gaps) + 1), gaps, SERIES[0])
    outages = sorted((seconds for one in told["sessions"] for seconds in one["outages"]), reverse=True)
    if outages:
        _line(figure, "away, from a lost connection to the next result", range(1, len(outages) + 1), outages, SERIES[1])
    figure.update_xaxes(title_text="sessions")
    return figure


def timelines_side_by_side(records: Sequence[tuple[str, Record]], column: str, unit: str) -> Any:
    """One column of several runs."""
    figure = _figure(unit)
    for number, (who, record) in enumerate(records):
        line = record["timeline"]
        _line(figure, who, line["t"], line[column], SERIES[number % len(SERIES)])
    return figure
