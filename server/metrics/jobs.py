"""Jobs as they go: accepted, begun, retried, ended, and how long each of it took."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric

from server.errors import Code
from server.events import Canceled, Event, Failed, Phase, Progress, Succeeded
from server.interfaces import Leases
from server.job import TERMINAL, Job, JobState
from server.jobs.places import Places
from server.metrics.registry import Kept, Metrics, Read, gauge

SECONDS = (
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
)  # from a small model to a long queue
FAILURES = (
    Code.ADAPTER_INVALID,
    Code.ADAPTER_NOT_FOUND,
    Code.DEADLINE_EXCEEDED,
    Code.GENERATION_FAILED,
    Code.GPU_OUT_OF_MEMORY,
    Code.INTERNAL_ERROR,
    Code.MEMORY_LIMIT_EXCEEDED,
    Code.MODEL_LOAD_FAILED,
    Code.SIGNATURE_FAILED,
    Code.STORAGE_FAILED,
)  # told from the start, with 0: the first of a kind is then an increase
OTHER = "other"  # a model that no card has any more
_COURSES = 100_000  # jobs whose beginning is remembered: more than may be pending, should some never be heard of again


@dataclass(slots=True)
class _Course:
    """What of a job's way is not in its record."""

    model: str
    created_at: float
    stepped: bool = False
    painted_at: float | None = None


class JobMeter:
    """A `JobObserver`, and a `Watcher` of all jobs. `models` are the cards' names."""

    def __init__(self, metrics: Metrics, models: Collection[str], seconds: Callable[[], float]) -> None:
        self._models = frozenset(models)
        self._seconds = seconds
        self._courses: OrderedDict[str, _Course] = OrderedDict()
        registry, model = metrics.registry, ("model",)
        self._accepted = Counter("atelier_jobs_accepted", "Jobs accepted by this node.", model, registry=registry)
        self._ended = Counter(
            "atelier_jobs_ended",
            "Jobs that this node has ended, by their state and the code of their failure (OK: none).",
            ("model", "state", "code"),
            registry=registry,
        )
        self._retried = Counter(
            "atelier_jobs_retried", "Jobs put back to be tried again.", ("code",), registry=registry
        )
        self._images = Counter("atelier_images", "Pictures painted and stored.", model, registry=registry)

        self._cached = Counter(
            "atelier_jobs_cached", "Jobs answered as the same was before, and not painted.", model, registry=registry
        )

        def seconds_of(name: str, text: str) -> Kept[str, Histogram]:
            seconds = Histogram(name, text, model, registry=registry, buckets=SECONDS)
            return Kept(lambda of_model: seconds.labels(of_model))

        self._first_step = seconds_of("atelier_job_first_step_seconds", "From acceptance to the first step's end.")
        self._queued = seconds_of("atelier_job_queued_seconds", "From acceptance to a place in a batch.")
        self._processing = seconds_of("atelier_job_processing_seconds", "From a place in a batch to the stored result.")
        self._finishing = seconds_of("atelier_job_finishing_seconds", "From painted to the stored and recorded result.")
        self._whole = seconds_of("atelier_job_seconds", "From acceptance to the result, of jobs that succeeded.")
        self._accepted_of = Kept[str, Counter](lambda name: self._accepted.labels(name))
        self._images_of = Kept[str, Counter](lambda name: self._images.labels(name))
        self._ended_of = Kept[tuple[str, str, str], Counter](lambda key: self._ended.labels(*key))
        for name in models:  # so that rates are right from a model's first job on
            self._accepted.labels(name)
            self._images.labels(name)
            self._cached.labels(name)
            self._ended.labels(name, JobState.SUCCEEDED.value, Code.OK.name)
            self._ended.labels(name, JobState.CANCELED.value, Code.OK.name)
            for code in FAILURES:
                self._ended.labels(name, JobState.FAILED.value, code.name)

    # A JobObserver

    def admitted(self, job: Job) -> None:
        """A new job."""
        model = self._model(job)
        self._accepted_of[model].inc()
        self._courses[job.id] = _Course(model, job.created_at)
        if len(self._courses) > _COURSES:
            self._courses.popitem(last=False)

    def moved(self, job: Job) -> None:
        """It began, is tried again, or has ended."""
        model = self._model(job)
        if job.state is JobState.PROCESSING and job.retries == 0 and job.attempts <= 1:
            self._queued[model].observe(max(0.0, (job.started_at or job.created_at) - job.created_at))
        elif job.state is JobState.RETRYING:
            self._retried.labels(_code(job)).inc()
        elif job.state in TERMINAL:
            self._ended_of[model, job.state.value, _code(job)].inc()
            if job.cached:
                self._cached.labels(model).inc()
            elif job.state is JobState.SUCCEEDED:
                self._succeeded(model, job)

    def _succeeded(self, model: str, job: Job) -> None:
        ended_at, started_at = job.completed_at or job.created_at, job.started_at or job.created_at
        self._images_of[model].inc(len(job.artifacts))
        self._processing[model].observe(max(0.0, ended_at - started_at))
        self._whole[model].observe(max(0.0, ended_at - job.created_at))
        course = self._courses.get(job.id)
        if course is not None and course.painted_at is not None:
            self._finishing[model].observe(max(0.0, ended_at - course.painted_at))

    # A Watcher

    def job_event(self, event: Event) -> None:
        """Its first step, the end of its painting, its end."""
        if isinstance(event, Succeeded | Failed | Canceled):
            self._courses.pop(event.job_id, None)
        elif isinstance(event, Progress) and (course := self._courses.get(event.job_id)) is not None:
            if event.phase is Phase.FINISHING:
                course.painted_at = self._seconds()
            if not course.stepped and event.step > 0:
                course.stepped = True
                self._first_step[course.model].observe(max(0.0, self._seconds() - course.created_at))

    def _model(self, job: Job) -> str:
        return job.request.model if job.request.model in self._models else OTHER


def _code(job: Job) -> str:
    return job.failure.code.name if job.failure is not None else Code.OK.name


class CountedLeases:
    """`Leases` that counts jobs taken up again."""

    def __init__(self, leases: Leases, metrics: Metrics) -> None:
        self._leases = leases
        self._taken_up = Counter(
            "atelier_jobs_taken_up",
            "Jobs taken up again: left by this node's earlier life (or expired when it began), or by a node that is gone.",
            ("when",),
            registry=metrics.registry,
        )
        for when in ("start", "expired"):
            self._taken_up.labels(when)

    async def take_up(self, *, at: float, begin: bool) -> list[Job]:
        """As the leases'."""
        jobs = await self._leases.take_up(at=at, begin=begin)
        self._taken_up.labels("start" if begin else "expired").inc(len(jobs))
        return jobs

    async def renew(self, *, at: float) -> None:
        """As the leases'."""
        await self._leases.renew(at=at)

    async def give_back(self, *, at: float) -> None:
        """As the leases'."""
        await self._leases.give_back(at=at)


def live_families(by_state: Callable[[], Mapping[JobState, int]], places: Places, most: int) -> Read:
    """The jobs that have not ended here."""

    def read() -> Iterable[Metric]:
        states = by_state()
        live = [((state.value,), states.get(state, 0)) for state in JobState if state not in TERMINAL]
        yield gauge("atelier_jobs", "Jobs of this node that have not ended.", live, ("state",))
        yield gauge("atelier_jobs_pending", "Places for pending jobs in use.", [((), places.taken)])
        yield gauge("atelier_jobs_pending_limit", "Places for pending jobs (ATELIER_MAX_PENDING_JOBS).", [((), most)])

    return read
