"""The database: its commits, and what it holds that is still to be done."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from prometheus_client import Histogram
from prometheus_client.metrics_core import Metric

from server.backlog import BacklogWatch
from server.job import TERMINAL, JobState
from server.metrics.registry import Metrics, Read, counter, gauge
from server.webhook import CallState, Channel

SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
WRITES = (1, 2, 5, 10, 20, 50, 100, 200)
_TO_DO = (CallState.WAITING, CallState.SENDING, CallState.UNKNOWN, CallState.DEAD)


class CommitMeter:
    """An `OnCommit`."""

    def __init__(self, metrics: Metrics) -> None:
        registry = metrics.registry
        self._seconds = Histogram(
            "atelier_records_commit_seconds",
            "One commit, as its writers wait for it.",
            registry=registry,
            buckets=SECONDS,
        )
        self._writes = Histogram(
            "atelier_records_commit_writes", "Writes that one commit shares.", registry=registry, buckets=WRITES
        )

    def __call__(self, writes: int, seconds: float) -> None:
        """So many writes were committed together."""
        self._seconds.observe(seconds)
        self._writes.observe(writes)


class RecordsState(Protocol):
    """The records as `factory.records` has them."""

    @property
    def retried(self) -> int:
        """How often something was recorded again."""
        ...

    @property
    def away(self) -> bool:
        """Whether the database was away when it was last needed."""
        ...


def records_families(records: RecordsState, watch: BacklogWatch, seconds: Callable[[], float]) -> Read:
    """What the records hold is all nodes' together, as it was when it was last looked at."""

    def read() -> Iterable[Metric]:
        yield counter(
            "atelier_records_retries", "Writes tried again since the database was away.", [((), records.retried)]
        )
        yield gauge(
            "atelier_records_away", "1: the database was away when it was last written to.", [((), records.away)]
        )
        backlog, now = watch.latest, seconds()
        age = [((), now - watch.looked_at)] if watch.looked_at else []
        yield gauge(
            "atelier_records_backlog_age_seconds",
            "Since atelier_records_jobs and atelier_outbox_… were looked up.",
            age,
        )
        jobs = [((state.value,), backlog.jobs.get(state, 0)) for state in JobState if state not in TERMINAL]
        yield gauge("atelier_records_jobs", "Jobs of all nodes that have not ended.", jobs, ("state",))
        channels = [(channel.value, backlog.channel(channel)) for channel in Channel]
        calls = [((name, state.value), one.calls.get(state, 0)) for name, one in channels for state in _TO_DO]
        yield gauge(
            "atelier_outbox_calls",
            "Calls to be made, being made, that may have arrived, that were given up.",
            calls,
            ("channel", "state"),
        )
        yield gauge(
            "atelier_outbox_oldest_seconds",
            "Age of the oldest waiting call.",
            [((name,), one.age(now)) for name, one in channels],
            ("channel",),
        )
        yield gauge(
            "atelier_outbox_overdue_seconds",
            "How long the turn of the first waiting call is past.",
            [((name,), one.overdue(now)) for name, one in channels],
            ("channel",),
        )

    return read
