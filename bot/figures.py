"""The figures of a run: latencies in HDR histograms, and what happened in each stretch of time. They add up over processes.

Latencies count from the moment at which a visitor meant to come, so that a server that holds up the bots does not hide how long
people would have waited (coordinated omission). `result_from_sent` is beside them for comparison: from the moment the
request left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram

from bot.visit import End, Visit

LOWEST, HIGHEST = 1, 3_600_000_000  # microseconds: an hour
DIGITS = 3  # significant ones, of the whole run's histograms …
STRETCH_DIGITS = 2  # … and of each stretch's
PERCENTILES = (50.0, 90.0, 99.0, 99.9)
LATENCIES = ("accepted", "first_progress", "result", "result_from_sent", "lateness", "frame")


class Latency:
    """Durations in seconds."""

    def __init__(self, digits: int = DIGITS) -> None:
        self._histogram: Any = HdrHistogram(LOWEST, HIGHEST, digits)

    def add(self, seconds: float) -> None:
        """One more."""
        self._histogram.record_value(min(max(int(seconds * 1e6), LOWEST), HIGHEST))

    def merge(self, encoded: str) -> None:
        """All of another's."""
        self._histogram.decode_and_add(encoded.encode("ascii"))

    def encoded(self) -> str:
        """For `merge`, in the HdrHistogram V2 encoding in base64."""
        data: bytes = self._histogram.encode()
        return data.decode("ascii")

    @property
    def count(self) -> int:
        """How many."""
        return int(self._histogram.get_total_count())

    def percentile(self, percent: float) -> float | None:
        """Seconds that so many percent do not exceed; None without any."""
        return self._histogram.get_value_at_percentile(percent) / 1e6 if self.count else None

    def summary(self) -> dict[str, Any]:
        """For a report."""
        summary: dict[str, Any] = {f"p{percent:g}": self.percentile(percent) for percent in PERCENTILES}
        summary["count"] = self.count
        summary["mean"] = self._histogram.get_mean_value() / 1e6 if self.count else None
        summary["max"] = self._histogram.get_max_value() / 1e6 if self.count else None
        return summary

    def curve(self) -> tuple[list[float], list[float]]:
        """Percentiles and their seconds, for drawing."""
        percents = [*range(0, 100, 2), 99, 99.5, 99.9, 99.99]
        return [float(percent) for percent in percents], [self.percentile(percent) or 0.0 for percent in percents]


@dataclass(slots=True)
class Stretch:
    """What happened in one stretch of time."""

    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    result: Latency = field(default_factory=lambda: Latency(STRETCH_DIGITS))
    accepted: Latency = field(default_factory=lambda: Latency(STRETCH_DIGITS))


class Figures:
    """All figures of a run, whose time is cut into stretches of `width` seconds."""

    def __init__(self, width: float) -> None:
        self.width = width
        self.latencies = {name: Latency() for name in LATENCIES}
        self.stretches: dict[int, Stretch] = defaultdict(Stretch)
        self.codes: dict[str, int] = defaultdict(int)
        self.conducts: dict[str, int] = defaultdict(int)

    def intended(self, visit: Visit) -> None:
        """Somebody means to come."""
        self._at(visit.intended).counts["intended"] += 1
        self.conducts[visit.order.conduct.value] += 1

    def ended(self, visit: Visit) -> None:
        """Somebody has gone. Only who was polite says something of the server's times."""
        assert visit.end is not None
        assert visit.ended is not None
        stretch = self._at(visit.ended)
        stretch.counts[visit.end.value] += 1
        if visit.code is not None:
            self.codes[visit.code.name] += 1
        if visit.sent is not None:
            self.latencies["lateness"].add(visit.sent - visit.intended)
        if visit.polite and visit.accepted is not None:
            self._add_times(visit, visit.accepted, stretch)

    def _add_times(self, visit: Visit, accepted: float, stretch: Stretch) -> None:
        assert visit.ended is not None
        self.latencies["accepted"].add(accepted - visit.intended)
        stretch.accepted.add(accepted - visit.intended)
        if visit.first_progress is not None:
            self.latencies["first_progress"].add(visit.first_progress - visit.intended)
        if visit.end is End.SUCCEEDED:
            self.latencies["result"].add(visit.ended - visit.intended)
            stretch.result.add(visit.ended - visit.intended)
            if visit.sent is not None:
                self.latencies["result_from_sent"].add(visit.ended - visit.sent)

    def frame_sent(self, now: float, late: float) -> None:
        """A live frame has left, so many seconds after it was due."""
        self._at(now).counts["intended"] += 1
        self.latencies["lateness"].add(late)

    def frame_heard(self, now: float, seconds: float) -> None:
        """A live frame's result is there, so many seconds after it was captured."""
        stretch = self._at(now)
        stretch.counts[End.SUCCEEDED.value] += 1
        self.latencies["frame"].add(seconds)
        stretch.result.add(seconds)

    def count(self, what: str) -> int:
        """So many of "intended", or of an End, in all."""
        return sum(stretch.counts.get(what, 0) for stretch in self.stretches.values())

    def counts(self) -> dict[str, int]:
        """All of them."""
        return {name: self.count(name) for name in ("intended", *(end.value for end in End))}

    def timeline(self) -> dict[str, list[Any]]:
        """Rates a second, and percentiles in seconds, stretch by stretch."""
        numbers = range(max(self.stretches, default=-1) + 1)
        rows = [self.stretches.get(number) or Stretch() for number in numbers]
        line: dict[str, list[Any]] = {"t": [(number + 0.5) * self.width for number in numbers]}
        for name in ("intended", *(end.value for end in End)):
            line[name] = [row.counts.get(name, 0) / self.width for row in rows]
        line["p50"] = [row.result.percentile(50) for row in rows]
        line["p99"] = [row.result.percentile(99) for row in rows]
        line["accepted_p99"] = [row.accepted.percentile(99) for row in rows]
        return line

    # Over processes

    def as_json(self) -> dict[str, Any]:
        """For `merge`."""
        return {
            "width": self.width,
            "latencies": {name: latency.encoded() for name, latency in self.latencies.items() if latency.count},
            "stretches": {
                str(number): {
                    "counts": dict(stretch.counts),
                    "result": stretch.result.encoded() if stretch.result.count else "",
                    "accepted": stretch.accepted.encoded() if stretch.accepted.count else "",
                }
                for number, stretch in self.stretches.items()
            },
            "codes": dict(self.codes),
            "conducts": dict(self.conducts),
        }

    @classmethod
    def merged(cls, parts: Iterable[dict[str, Any]]) -> Figures:
        """The figures of several processes, or of one."""
        parts = list(parts)
        whole = cls(parts[0]["width"])
        for part in parts:
            whole.merge(part)
        return whole

    def merge(self, part: dict[str, Any]) -> None:
        """Add another's, as it gives itself `as_json`."""
        if part["width"] != self.width:
            raise ValueError("figures of different stretches do not add up")
        for name, encoded in part["latencies"].items():
            self.latencies[name].merge(encoded)
        for number, told in part["stretches"].items():
            stretch = self.stretches[int(number)]
            for name, count in told["counts"].items():
                stretch.counts[name] += count
            for latency, encoded in ((stretch.result, told["result"]), (stretch.accepted, told["accepted"])):
                if encoded:
                    latency.merge(encoded)
        for name in ("codes", "conducts"):
            for key, count in part[name].items():
                getattr(self, name)[key] += count

    def _at(self, moment: float) -> Stretch:
        return self.stretches[max(0, int(moment / self.width))]
