"""What happens to jobs, as spans. Everything here runs on the reactor thread; ended spans wait in memory for their exporter."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, Status, StatusCode, TraceFlags
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from ai.types import GenerationRequest
from server import __version__
from server.events import Canceled, Event, Failed, Phase, Progress, Succeeded
from server.incoming import INCOMING, Incoming
from server.job import TERMINAL, Job, JobState

KEPT = 20_000  # jobs whose context is known, for calls that are made long after their end; 200 bytes each
_STEPPING = (Phase.DENOISING, Phase.DECODING, Phase.WRITING)


class JobIds(RandomIdGenerator):
    """Random ids, but for the next root's, which can be chosen."""

    def __init__(self) -> None:
        self.next_trace: int | None = None
        self.next_span: int | None = None

    def generate_trace_id(self) -> int:
        """Of a span without a parent."""
        chosen, self.next_trace = self.next_trace, None
        return chosen or super().generate_trace_id()

    def generate_span_id(self) -> int:
        """Of any."""
        chosen, self.next_span = self.next_span, None
        return chosen or super().generate_span_id()


@dataclass(slots=True, eq=False)
class _Course:
    """One job under way here. `root` is None where another node has it; `part` is what of its way it is in, since `since`."""

    context: Context
    root: Span | None = None
    part: Span | None = None
    name: str = ""
    since: float = 0.0
    stepped: bool = False
    parked: bool = False


class JobTracer:
    """A `JobObserver`, and a `Watcher` of all jobs. `ids` are the provider's; a node that does not paint dispatches its jobs."""

    def __init__(
        self, provider: TracerProvider, ids: JobIds, seconds: Callable[[], float], *, paints: bool = True
    ) -> None:
        self._paints = paints
        self._tracer = provider.get_tracer("atelier", __version__)
        self._sampler = provider.sampler
        self._ids = ids
        self._seconds = seconds
        self._courses: dict[str, _Course] = {}
        self._contexts: OrderedDict[str, Context] = OrderedDict()

    # A JobObserver

    def admitted(self, job: Job) -> None:
        """Its root begins where its door has it."""
        incoming = INCOMING.get()
        began = job.created_at if incoming.at is None else incoming.at
        self._ids.next_trace, self._ids.next_span = trace_id_of(job.id), span_id_of(job.id)
        try:
            root = self._tracer.start_span(
                "job", _callers(incoming), SpanKind.SERVER, attributes=_attributes(job, incoming), start_time=_ns(began)
            )
        finally:
            self._ids.next_trace = self._ids.next_span = None
        course = self._open(job.id, trace.set_span_in_context(root, Context()), root)
        self._begin(course, "admit", began)
        self._begin(course, "queue" if self._paints else "dispatch")

    def taken(self, job: Job) -> None:
        """It was taken from another node, or life: what is done here belongs to its trace."""
        course = self._open(job.id, self._elsewhere(job.id, INCOMING.get()), None)
        self._begin(course, "queue", **{"atelier.fence": job.fence})

    def moved(self, job: Job) -> None:
        """It has its place, is tried again, or has ended."""
        course = self._courses.get(job.id)
        if course is None:
            return
        if job.state in (JobState.STARTING, JobState.PROCESSING):
            self._paint(course, job.started_at)
        elif job.state is JobState.RETRYING:
            course.stepped = course.parked = False
            self._fail(course.part, job)
            self._begin(course, "wait for retry")
        elif job.state is JobState.QUEUED:
            self._begin(course, "queue")
        elif job.state in TERMINAL:
            if course.root is not None:
                course.root.set_attribute("atelier.state", job.state.value)
            for span in (course.part, course.root):
                self._fail(span, job)
            self._end_part(course)
            if course.root is None:  # whoever has the root hears of the end by itself
                self._courses.pop(job.id, None)

    # A Watcher

    def job_event(self, event: Event) -> None:
        """Its steps, the end of its painting, its end."""
        course = self._courses.get(event.job_id)
        if course is None:
            return
        if isinstance(event, Progress):
            self._progress(course, event)
        elif isinstance(event, Succeeded | Failed | Canceled):
            self._end_part(course)
            del self._courses[event.job_id]
            if course.root is not None:
                if isinstance(event, Failed):  # of another node: it was not moved here
                    course.root.set_status(Status(StatusCode.ERROR, event.failure.code.name))
                course.root.end(_ns(self._seconds()))

    def _progress(self, course: _Course, event: Progress) -> None:
        if course.part is None:
            return
        if not self._paints:  # a worker has it, and tells what it does itself
            self._end_part(course)
            return
        at = _ns(self._seconds())
        if event.phase in (*_STEPPING, Phase.FINISHING):
            self._paint(course, None)
        if event.phase is Phase.FINISHING:
            course.part.set_attribute("atelier.steps", event.step)
            self._begin(course, "finish")
        elif event.phase is Phase.PARKED:
            course.parked = True
            course.part.add_event("parked", {"atelier.step": event.step}, at)
        elif event.phase in _STEPPING:
            if not course.stepped:
                course.stepped = True
                course.part.add_event("first step", timestamp=at)
            if course.parked:
                course.parked = False
                course.part.add_event("resumed", {"atelier.step": event.step}, at)

    def _paint(self, course: _Course, at: float | None) -> None:
        """It has its place, if that was not known: the record of it may come after the first steps."""
        if course.name == "queue":
            self._begin(course, "paint", at)

    def stop(self) -> None:
        """What has not ended goes on in the next life."""
        for course in self._courses.values():
            self._end_part(course)
            if course.root is not None:
                course.root.add_event("left to the next life")
                course.root.end(_ns(self._seconds()))
        self._courses.clear()

    # Spans beside a job's way

    def within(self, job_id: str, name: str, **attributes: Any) -> Span:
        """A span of what is under way for a job, or of the job itself when that is over. To be ended by `end`."""
        course = self._courses.get(job_id)
        if course is not None and course.part is not None:
            context = trace.set_span_in_context(course.part, Context())
        else:
            context = self._contexts.get(job_id) or self._elsewhere(job_id, Incoming())
        return self._tracer.start_span(name, context, attributes=attributes, start_time=_ns(self._seconds()))

    def beside(self, job_id: str, name: str, **attributes: Any) -> Span:
        """A span of the job itself."""
        context = self._contexts.get(job_id) or self._elsewhere(job_id, Incoming())
        kind = SpanKind.CLIENT
        return self._tracer.start_span(name, context, kind, attributes=attributes, start_time=_ns(self._seconds()))

    def end(self, span: Span, problem: str = "") -> None:
        """It is over, and went wrong if there is a `problem`."""
        if problem:
            span.set_status(Status(StatusCode.ERROR, problem))
        span.end(_ns(self._seconds()))

    # Ours

    def _open(self, job_id: str, context: Context, root: Span | None) -> _Course:
        self._contexts[job_id] = context
        if len(self._contexts) > KEPT:
            self._contexts.popitem(last=False)
        course = self._courses[job_id] = _Course(context, root)
        return course

    def _begin(self, course: _Course, name: str, at: float | None = None, **attributes: Any) -> None:
        """The next part of a job's way begins where the one before ends."""
        began = self._seconds() if at is None else at
        if course.part is not None:
            began = max(began, course.since)
            course.part.end(_ns(began))
        course.part = self._tracer.start_span(name, course.context, attributes=attributes, start_time=_ns(began))
        course.name, course.since = name, began

    def _end_part(self, course: _Course) -> None:
        if course.part is not None:
            course.part.end(_ns(max(self._seconds(), course.since)))
            course.part, course.name = None, ""

    def _fail(self, span: Span | None, job: Job) -> None:
        if span is not None and job.failure is not None:
            span.set_attribute("atelier.code", job.failure.code.name)
            span.set_status(Status(StatusCode.ERROR, job.failure.code.name))

    def _elsewhere(self, job_id: str, incoming: Incoming) -> Context:
        """The context of a job whose root another node has, sampled as that node has sampled it."""
        caller = trace.get_current_span(_callers(incoming)).get_span_context()
        trace_id = caller.trace_id if caller.is_valid else trace_id_of(job_id)
        sampled = caller.trace_flags.sampled if caller.is_valid else self._is_sampled(trace_id)
        flags = TraceFlags(TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT)
        there = SpanContext(trace_id, span_id_of(job_id), is_remote=True, trace_flags=flags)
        return trace.set_span_in_context(NonRecordingSpan(there), Context())

    def _is_sampled(self, trace_id: int) -> bool:
        return self._sampler.should_sample(None, trace_id, "job").decision is Decision.RECORD_AND_SAMPLE


def trace_id_of(job_id: str) -> int:
    """A job's id has 128 bits, as a trace's has; of any other a hash."""
    try:
        return int(job_id, 16) % 2**128 or 1
    except ValueError:
        return int(hashlib.sha256(job_id.encode()).hexdigest()[:32], 16) or 1


def span_id_of(job_id: str) -> int:
    """The root's."""
    return int(hashlib.sha256(b"job " + job_id.encode()).hexdigest()[:16], 16) or 1


def _callers(incoming: Incoming) -> Context:
    """The caller's span, if it told one."""
    return TraceContextTextMapPropagator().extract({"traceparent": incoming.traceparent}, Context())


def _attributes(job: Job, incoming: Incoming) -> dict[str, Any]:
    request = job.request
    told = {
        "atelier.job_id": job.id,
        "atelier.door": incoming.door,
        "atelier.model": request.model,
        "atelier.steps": request.steps,
        "atelier.priority": request.priority,
    }
    if not isinstance(request, GenerationRequest):
        return told
    return told | {
        "atelier.width": request.width,
        "atelier.height": request.height,
        "atelier.images": request.num_images,
        "atelier.solver": request.solver,
        "atelier.adapters": len(request.adapters),
    }


def _ns(seconds: float) -> int:
    return int(seconds * 1_000_000_000)
