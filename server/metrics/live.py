"""Live sessions, by stream model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from prometheus_client.metrics_core import Metric

from server.live.numbers import StageNumbers
from server.metrics.registry import Read, counter, gauge, histogram

_MODEL = ("model",)
Numbers = Sequence[StageNumbers]


def live_session_families(numbers: Callable[[], Numbers]) -> Read:
    """Of every model, from 0 on."""
    return lambda: _families(numbers())


def _families(each: Numbers) -> Iterable[Metric]:
    of = partial(_each, each)
    yield gauge("atelier_live_sessions", "Open live sessions.", _plain(each, "sessions"), _MODEL)
    yield gauge("atelier_live_processes", "Stream processes, the spare one too.", _plain(each, "processes"), _MODEL)
    text = "Stream processes that have loaded the model: one works, and another stands by."
    yield gauge("atelier_live_processes_ready", text, _plain(each, "ready"), _MODEL)
    text = "Stream processes that ended unasked, and were begun again."
    yield counter("atelier_live_processes_died", text, _plain(each, "died"), _MODEL)
    yield counter("atelier_live_frames", "Frames of live sessions that were taken.", of("frames"), _MODEL)
    text = "Frames refused: of another shape, no numbers, from the future."
    yield counter("atelier_live_frames_refused", text, of("refused"), _MODEL)
    text = "Frames that were not run: overtaken by newer ones before their tick, or come late."
    yield counter("atelier_live_frames_dropped", text, of("dropped"), _MODEL)
    text = "Frames for which the model gave no finite numbers."
    yield counter("atelier_live_frames_unfit", text, of("unfit"), _MODEL)
    yield counter("atelier_live_results", "Results of live sessions.", of("results"), _MODEL)
    text = "Ticks that were skipped, since the one before was still running or the reactor was late."
    yield counter("atelier_live_ticks_overrun", text, of("overruns"), _MODEL)
    text = "A tick, from its begin to its results being told."
    yield histogram("atelier_live_tick_seconds", text, of("tick_times"), _MODEL)
    text = "The stream process' own part of a tick."
    yield histogram("atelier_live_run_seconds", text, of("run_times"), _MODEL)
    text = "From a frame's coming to its result being told; the wait for the tick is most of it."
    yield histogram("atelier_live_frame_seconds", text, of("frame_times"), _MODEL)


def _plain(each: Numbers, name: str) -> list[tuple[tuple[str], Any]]:
    return [((one.model,), getattr(one, name)) for one in each]


def _each(each: Numbers, name: str) -> list[tuple[tuple[str], Any]]:
    values = [((one.model,), getattr(one.counts, name)) for one in each]
    return [(labels, getattr(value, "histogram", value)) for labels, value in values]
