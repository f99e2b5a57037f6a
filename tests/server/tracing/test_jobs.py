"""Jobs as traces, by real jobs on fakes; the spans are kept in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from ai.types import GenerationError, OutOfMemory, Parked
from server.events import Phase, Progress, Succeeded
from server.incoming import INCOMING, Incoming, traceparent_of
from server.interfaces import Claims, Leases
from server.job import Job
from server.jobs.observing import ObservedJobs
from server.pools import InlinePool
from server.tracing.jobs import JobIds, JobTracer, span_id_of, trace_id_of
from server.tracing.wrapping import TracedArtifacts, TracedClaims, TracedFinisher, TracedLeases, TracedSender
from server.webhook import Channel, OutboxCall
from server.webhooks.sending import Answered, Outcome, Unreached
from tests.server.database.contract import a_job
from tests.server.fakes import settle
from tests.server.house import House
from tests.server.memory import MemoryJobStore
from tests.server.webhooks.sender import FakeSender

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = CALLER[:-1] + "0"


class Traced:
    """A house whose jobs are traced."""

    def __init__(self, *, paints: bool = True, sampler: Any = None, **parts: Any) -> None:
        self._exporter = InMemorySpanExporter()
        ids = JobIds()
        provider = TracerProvider(id_generator=ids, shutdown_on_exit=False, sampler=sampler)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = JobTracer(provider, ids, lambda: self.house.clock.seconds(), paints=paints)
        self.house = House(store=ObservedJobs(MemoryJobStore(100), [self.tracer]), **parts)
        self.house.board.tap(self.tracer)
        lifecycle: Any = self.house.lifecycle
        lifecycle._finisher = TracedFinisher(TracedArtifacts(self.house.artifacts, self.tracer), InlinePool())

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        """Those that have ended, in that order."""
        return self._exporter.get_finished_spans()

    def of(self, name: str) -> Any:
        """The one span of a name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span

    @property
    def names(self) -> list[str]:
        """Of those that have ended, in that order."""
        return [span.name for span in self.spans]


def seconds(span: Any) -> float:
    """How long it took."""
    return float(span.end_time - span.start_time) / 1e9


async def test_a_job_is_one_trace_from_its_admission_to_its_end() -> None:
    """Each part begins where the one before ends; the trace is the job's id, the root's children are in it."""
    traced = Traced()
    house = traced.house
    job = await house.job(num_images=2)
    await house.pass_time(2)
    house.painter.start(job.id)
    await settle()
    await house.pass_time(3)
    house.painter.step(job.id, 1)
    await house.pass_time(1)
    house.painter.finish(job.id)
    await settle()
    assert traced.names == ["admit", "queue", "paint", "store", "store", "finish", "job"]
    root = traced.of("job")
    assert root.parent is None
    assert (root.context.trace_id, root.context.span_id) == (trace_id_of(job.id), span_id_of(job.id))
    assert {span.context.trace_id for span in traced.spans} == {trace_id_of(job.id)}
    for name in ("admit", "queue", "paint", "finish"):
        assert traced.of(name).parent.span_id == root.context.span_id, name
    stored: list[Any] = [span for span in traced.spans if span.name == "store"]
    assert {span.parent.span_id for span in stored} == {traced.of("finish").context.span_id}
    assert [seconds(traced.of(name)) for name in ("queue", "paint", "job")] == [2.0, 4.0, 6.0]
    paint = traced.of("paint")
    assert [event.name for event in paint.events] == ["first step"]
    assert paint.attributes["atelier.steps"] == 20
    assert root.attributes["atelier.state"] == "succeeded"
    assert (root.attributes["atelier.model"], root.attributes["atelier.images"]) == ("demo", 2)
    assert root.status.is_ok or root.status.status_code.name == "UNSET"


async def test_nothing_that_a_user_wrote_is_in_a_span() -> None:
    """Neither prompt nor owner nor key."""
    traced = Traced()
    job = await traced.house.job("SECRET prompt", owner="SECRET-owner", idempotency_key="SECRET-key")
    traced.house.painter.paint(job.id)
    await settle()
    assert len(traced.spans) == 6
    assert "SECRET" not in "".join(span.to_json() for span in traced.spans)


async def test_a_failure_is_told_by_its_code_alone() -> None:
    """On the part that it ended, and on the job."""
    traced = Traced()
    job = await traced.house.job()
    traced.house.painter.start(job.id)
    await settle()
    traced.house.painter.fail(job.id, GenerationError("SECRET words"))
    await settle()
    for name in ("paint", "job"):
        span = traced.of(name)
        assert (span.status.status_code.name, span.status.description) == ("ERROR", "GENERATION_FAILED")
        assert span.attributes["atelier.code"] == "GENERATION_FAILED"
    assert traced.of("job").attributes["atelier.state"] == "failed"


async def test_a_retry_waits_and_begins_again() -> None:
    """In the same trace."""
    traced = Traced(retry_delays=(30.0,))
    house = traced.house
    job = await house.job()
    house.painter.start(job.id)
    house.painter.fail(job.id, OutOfMemory("full"))
    await settle()
    await house.pass_time(30)
    house.painter.paint(job.id)
    await settle()
    assert traced.names == ["admit", "queue", "paint", "wait for retry", "queue", "paint", "store", "finish", "job"]
    assert seconds(traced.of("wait for retry")) == 30
    first, second = [span for span in traced.spans if span.name == "paint"]
    assert (first.status.description, second.status.description) == ("GPU_OUT_OF_MEMORY", None)


async def test_parking_and_resuming_are_events_of_the_painting() -> None:
    """A span is for what takes time by itself."""
    traced = Traced()
    house = traced.house
    job = await house.job()
    house.painter.start(job.id)
    await settle()
    house.painter.step(job.id, 1)
    house.lifecycle.engine_events([Parked(job.id, 1, 20, 0.05)])
    house.painter.step(job.id, 2)
    house.painter.finish(job.id)
    await settle()
    assert [event.name for event in traced.of("paint").events] == ["first step", "parked", "resumed"]


async def test_a_record_that_comes_after_the_first_steps_changes_no_order() -> None:
    """An engine may be faster than a commit: the way is queue, paint, finish all the same."""
    traced = Traced()
    house = traced.house
    job = await house.job()
    house.painter.paint(job.id)
    await settle()
    assert traced.names == ["admit", "queue", "paint", "store", "finish", "job"]


async def test_a_canceled_job_ends_its_trace() -> None:
    """Without an error: somebody wanted it so."""
    traced = Traced()
    job = await traced.house.job()
    traced.house.lifecycle.cancel(job.id)
    await settle()
    assert traced.names == ["admit", "queue", "job"]
    assert traced.of("job").status.status_code.name == "UNSET"
    assert traced.of("job").attributes["atelier.state"] == "canceled"


async def test_a_caller_s_trace_is_gone_on_with() -> None:
    """Its span is the root's parent, and the door was there before the record."""
    traced = Traced()
    token = INCOMING.set(Incoming("http", traced.house.clock.seconds() - 1.5, CALLER))
    try:
        job = await traced.house.job()
    finally:
        INCOMING.reset(token)
    traced.house.painter.paint(job.id)
    await settle()
    root = traced.of("job")
    assert f"{root.context.trace_id:032x}" == CALLER.split("-")[1]
    assert f"{root.parent.span_id:016x}" == CALLER.split("-")[2]
    assert {span.context.trace_id for span in traced.spans} == {root.context.trace_id}
    assert root.attributes["atelier.door"] == "http"
    assert seconds(traced.of("admit")) == 1.5


async def test_a_caller_that_is_not_sampled_has_no_spans() -> None:
    """As its own tracing decided."""
    traced = Traced()
    token = INCOMING.set(Incoming("amqp", None, UNSAMPLED))
    try:
        job = await traced.house.job()
    finally:
        INCOMING.reset(token)
    traced.house.painter.paint(job.id)
    await settle()
    assert traced.names == []


@pytest.mark.parametrize("given", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
async def test_a_traceparent_that_is_none_is_left_out(given: str) -> None:
    """The job's own trace begins."""
    traced = Traced()
    token = INCOMING.set(Incoming("http", None, given))
    try:
        job = await traced.house.job()
    finally:
        INCOMING.reset(token)
    traced.house.lifecycle.cancel(job.id)
    await settle()
    assert traced.of("job").context.trace_id == trace_id_of(job.id)
    assert traced.of("job").parent is None


def test_only_texts_of_a_sensible_length_are_traceparents() -> None:
    """A header may be anything."""
    assert [traceparent_of(given) for given in (CALLER, b"x", None, 7, "x" * 1000)] == [CALLER, "", "", "", ""]


async def test_a_job_taken_from_another_node_adds_to_its_trace() -> None:
    """Below the root that the other node tells; its own end does not end that."""

    class Taking:
        async def take(self, job_id: str, *, at: float) -> Job | None:
            return a_job(job_id, fence=2) if job_id != "gone" else None

        async def unclaimed(self, *, since: float, most: int) -> list[str]:
            return ["x"]

    traced = Traced()
    claims: Claims = TracedClaims(Taking(), traced.tracer)
    assert await claims.take("gone", at=1.0) is None
    assert await claims.unclaimed(since=1.0, most=2) == ["x"]
    token = INCOMING.set(Incoming("worker", None, CALLER))
    try:
        await claims.take("ab" * 16, at=1.0)
    finally:
        INCOMING.reset(token)
    traced.tracer.stop()
    queue = traced.of("queue")
    assert f"{queue.context.trace_id:032x}" == CALLER.split("-")[1]
    assert queue.parent.span_id == span_id_of("ab" * 16)
    assert queue.attributes["atelier.fence"] == 2


async def test_a_job_of_an_earlier_life_adds_to_its_trace() -> None:
    """Nobody told this life of a caller: the trace is the job's id."""

    class One:
        async def take_up(self, *, at: float, begin: bool) -> list[Job]:
            return [a_job("cd" * 16, fence=3)]

        async def renew(self, *, at: float) -> None:
            raise AssertionError("renewed")

        async def give_back(self, *, at: float) -> None:
            raise AssertionError("given back")

    traced = Traced()
    leases: Leases = TracedLeases(One(), traced.tracer)
    await leases.take_up(at=1.0, begin=True)
    for other, said in ((leases.renew, "renewed"), (leases.give_back, "given back")):
        with pytest.raises(AssertionError, match=said):
            await other(at=1.0)
    traced.tracer.stop()
    assert traced.of("queue").context.trace_id == int("cd" * 16, 16)
    assert traced.of("queue").parent.span_id == span_id_of("cd" * 16)


async def test_a_gateway_tells_the_root_and_what_it_did() -> None:
    """Its job is dispatched until something is heard of it; what a worker does, that tells itself."""
    traced = Traced(paints=False)
    job = await traced.house.job()
    told = Progress(number=5, job_id=job.id, phase=Phase.DENOISING, step=1, total_steps=2, fraction=0.5, eta_seconds=0)
    traced.tracer.job_event(told)
    traced.tracer.job_event(Progress(**{**_fields(told), "number": 6, "phase": Phase.FINISHING}))
    end = Succeeded(number=7, job_id=job.id, artifacts=(), warnings=(), queued_seconds=0, processing_seconds=0)
    traced.tracer.job_event(end)
    assert traced.names == ["admit", "dispatch", "job"]


def _fields(event: Progress) -> dict[str, Any]:
    return {name: getattr(event, name) for name in Progress.__dataclass_fields__}


async def test_what_a_stop_leaves_is_told_as_far_as_it_went() -> None:
    """Another life goes on with it."""
    traced = Traced()
    await traced.house.job()
    traced.tracer.stop()
    assert traced.names == ["admit", "queue", "job"]
    assert [event.name for event in traced.of("job").events] == ["left to the next life"]


@pytest.mark.parametrize(
    ("outcome", "problem"),
    [(Answered(200), None), (Answered(503), "refused"), (Unreached("no SECRET route"), "unreached")],
)
async def test_calls_of_webhooks_are_spans_of_their_jobs(outcome: Outcome, problem: str | None) -> None:
    """Also long after the job's end; of a message that never was a job there is none."""
    traced, inner = Traced(), FakeSender()
    inner.outcomes = {"https://SECRET.example:443": [outcome]}
    job = await traced.house.job()
    traced.house.lifecycle.cancel(job.id)
    await settle()
    sender = TracedSender(inner, traced.tracer)
    given = {
        "name": "end",
        "channel": Channel.WEBHOOK,
        "payload": "{}",
        "position": 9,
        "target": "https://SECRET.example:443",
    }
    assert await sender.send(OutboxCall(id="1", job_id=job.id, **given), news=False) is outcome  # type: ignore[arg-type]
    assert await sender.send(OutboxCall(id="2", job_id=None, **given), news=False) is outcome  # type: ignore[arg-type]
    tell = traced.of("tell")
    assert (tell.context.trace_id, tell.parent.span_id) == (trace_id_of(job.id), span_id_of(job.id))
    assert (tell.status.description, tell.attributes["atelier.call"]) == (problem, "end")
    assert tell.attributes.get("http.response.status_code") == (
        outcome.status if isinstance(outcome, Answered) else None
    )
    assert "SECRET" not in tell.to_json()


async def test_a_picture_that_cannot_be_stored_is_an_error_of_its_span() -> None:
    """With the code, without the storage's words."""
    traced = Traced()
    job = await traced.house.job()
    traced.house.artifacts.put_error = OSError("SECRET")
    traced.house.painter.paint(job.id)
    await settle()
    assert traced.of("store").status.description == "STORAGE_FAILED"
    assert traced.of("job").status.description == "STORAGE_FAILED"
    assert "SECRET" not in "".join(span.to_json() for span in traced.spans)


async def test_what_is_sampled_out_is_so_on_every_node() -> None:
    """By the trace's id, which all of them know."""
    none, all_ = (ParentBased(TraceIdRatioBased(share)) for share in (0.0, 1.0))
    for sampler, seen in ((none, []), (all_, ["queue"])):
        traced = Traced(sampler=sampler)
        traced.tracer.taken(a_job("ef" * 16, fence=2))
        traced.tracer.stop()
        assert traced.names == seen


def test_a_job_s_id_is_its_trace_s() -> None:
    """32 hexadecimal characters as they stand; any other id has one too."""
    assert trace_id_of("0f" * 16) == int("0f" * 16, 16)
    assert 0 < trace_id_of("job-1") < 2**128
    assert trace_id_of("0" * 32) == 1
    assert 0 < span_id_of("job-1") < 2**64
