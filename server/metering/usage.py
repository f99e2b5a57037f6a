"""What is recorded of each ended job for whoever pays, and what is asked of that record.

A job's usage is recorded in the transaction of its end, so that it is there once, whatever happens to the server.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Protocol

from ai import types as engine
from server.job import Job, JobState
from server.metering.cost import cost_of, pictures_of

DAY = 86_400.0  # seconds; days are of UTC
_REMEMBERED = 100_000  # requests whose times wait for their end, should some never be heard of again
_ENDS = (engine.Finished, engine.Answered, engine.Failed, engine.Canceled)
_TOKENS = ("input_token_count", "output_token_count")  # of a job's figures


class DeviceTimes:
    """The device's seconds of jobs under way, from what the engine tells: those of a job's tries here add up."""

    def __init__(self) -> None:
        self._of: OrderedDict[str, list[float]] = OrderedDict()  # of tries that are over, and of this one

    def engine_events(self, events: Iterable[engine.EngineEvent]) -> None:
        """What happened in one step."""
        for event in events:
            seconds = getattr(event, "device_seconds", None)
            if seconds is not None:
                times = self._of.setdefault(event.request_id, [0.0, 0.0])  # type: ignore[union-attr]
                times[1] = max(times[1], seconds)
            if isinstance(event, _ENDS) and event.request_id in self._of:
                times = self._of[event.request_id]
                times[:] = [sum(times), 0.0]
        while len(self._of) > _REMEMBERED:
            self._of.popitem(last=False)

    def of(self, job_id: str) -> float:
        """So far."""
        return sum(self._of.get(job_id, ()))

    def forget(self, job_id: str) -> None:
        """Its end is recorded."""
        self._of.pop(job_id, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What is asked for each, in whatever money."""

    picture: float = 0.0
    gpu_second: float = 0.0
    thousand_tokens: float = 0.0
    cached_share: float = 0.0  # of the price, and of the cost, of what was answered as the same was before


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one ended job used. Times are seconds since 1970."""

    job_id: str
    owner: str
    model: str
    state: JobState
    asked_at: float
    started_at: float | None
    ended_at: float
    pictures: int
    tokens: int
    cost: float
    gpu_seconds: float
    price: float
    cached: bool = False

    @property
    def day(self) -> int:
        """On which it ended: days since 1970."""
        return int(self.ended_at // DAY)


def usage_of(job: Job, gpu_seconds: float, prices: Prices) -> Usage:
    """Of a job that has ended. What failed is not charged; of what its owner cancelled after it had begun the cost counts.

    Of a job that was answered as the same was before nothing was made; it costs the share that the prices say.
    """
    made = job.state is JobState.SUCCEEDED
    if not (made or gpu_seconds):
        gpu_seconds = _seconds_of_process(job)
    begun = job.started_at is not None
    pictures = _pictures_made(job) if made else 0
    tokens = tokens_of(job) if made else 0
    share = prices.cached_share if job.cached else 1.0
    price = pictures * prices.picture + gpu_seconds * prices.gpu_second + tokens / 1000 * prices.thousand_tokens
    return Usage(
        job_id=job.id,
        owner=job.owner,
        model=job.request.model,
        state=job.state,
        asked_at=job.created_at,
        started_at=job.started_at,
        ended_at=job.completed_at or job.created_at,
        pictures=0 if job.cached else pictures,
        tokens=0 if job.cached else tokens,
        cost=share * cost_of(job.request) if made or (begun and job.state is JobState.CANCELED) else 0.0,
        gpu_seconds=gpu_seconds,
        price=0.0 if job.state is JobState.FAILED else share * price,
        cached=job.cached,
    )


def _pictures_made(job: Job) -> int:
    """Of a custom model those that came out, which nobody knows before."""
    return len(job.artifacts) if isinstance(job.request, engine.CustomRequest) else pictures_of(job.request)


def _seconds_of_process(job: Job) -> float:
    """How long a custom model's process was at a job that was cut short before it had said so: it has nothing else to do.

    Of a job that was to be tried again nobody can tell: it may have waited all the time.
    """
    if not isinstance(job.request, engine.CustomRequest) or job.started_at is None or job.completed_at is None:
        return 0.0
    if job.retries:
        return 0.0
    return max(0.0, job.completed_at - job.started_at)


def tokens_of(job: Job) -> int:
    """Read and written, of a text; 0 of anything else."""
    return int(sum(job.figures.get(name, 0) for name in _TOKENS))


@dataclass(frozen=True, slots=True)
class Quota:
    """What an owner may have in a day of UTC; None: as much as they like."""

    pictures: int | None = None
    cost: float | None = None


class By(StrEnum):
    """What usage is added up by."""

    DAY = "day"
    MODEL = "model"
    OWNER = "owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuery:
    """Jobs that ended on days from `since` to `until` (days since 1970, both included), of one owner or (None) of all."""

    owner: str | None
    since: int
    until: int
    by: Sequence[By] = (By.DAY, By.MODEL)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine:
    """A sum. What it was not added up by is None."""

    day: str | None
    owner: str | None
    model: str | None
    jobs: int
    succeeded: int
    failed: int
    canceled: int
    cached: int
    pictures: int
    tokens: int
    cost: float
    gpu_seconds: float
    price: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How a model's jobs fared that ended in a window: seconds at the 50th, 90th and 99th percentile, of those that succeeded and
    were not answered as the same was before."""

    jobs: int
    succeeded: int
    failed: int
    canceled: int
    cached: int
    success_share: float | None
    queue_seconds: tuple[float, float, float] | None
    predict_seconds: tuple[float, float, float] | None
    total_seconds: tuple[float, float, float] | None
    pictures: int
    gpu_seconds: float


class UsageRecords(Protocol):
    """Reads usage. Raises RecordsUnavailable."""

    async def usage(self, query: UsageQuery) -> list[UsageLine]:
        """Sums, in the order of what they were added up by."""
        ...

    async def figures(self, models: Collection[str], owner: str | None, since: float) -> Figures:
        """Of the jobs of some models, or versions of one, together, that ended from then on; of one owner's, or of all."""
        ...

    async def forget(self, ended_before: float) -> None:
        """What ended on days (of UTC) before that time's."""
        ...


def day_text(day: int) -> str:
    """2026-11-21."""
    return datetime.fromtimestamp(day * DAY, UTC).date().isoformat()


def day_of(day: date) -> int:
    """Days since 1970."""
    return (day - date(1970, 1, 1)).days
