"""Traced wrappers of what others do for jobs: pictures finished and stored, calls made, jobs taken from other nodes."""

from __future__ import annotations

from contextvars import ContextVar

from ai.types import Finished
from server.events import Artifact
from server.interfaces import ArtifactStore, Claims, Leases
from server.job import Job
from server.jobs.finishing import Finisher
from server.tracing.jobs import JobTracer
from server.webhook import OutboxCall
from server.webhooks.delivery import Sender
from server.webhooks.sending import Answered, Outcome

_FINISHING: ContextVar[str] = ContextVar("finishing", default="")  # the job whose pictures are being stored


class TracedFinisher(Finisher):
    """Lets the storage know whose pictures it keeps."""

    async def finish(self, job: Job, finished: Finished) -> tuple[tuple[Artifact, ...], tuple[str, ...]]:
        """As ever."""
        token = _FINISHING.set(job.id)
        try:
            return await super().finish(job, finished)
        finally:
            _FINISHING.reset(token)


class TracedArtifacts:
    """An `ArtifactStore` whose puts are spans of the job that is being finished."""

    def __init__(self, store: ArtifactStore, tracer: JobTracer) -> None:
        self._store = store
        self._tracer = tracer

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """As the store's."""
        job_id = _FINISHING.get()
        if not job_id:
            await self._store.put(key, data, content_type, sha256)
            return
        span, problem = self._tracer.within(job_id, "store", **{"atelier.bytes": len(data)}), "canceled"
        try:
            await self._store.put(key, data, content_type, sha256)
            problem = ""
        except OSError:
            problem = "STORAGE_FAILED"
            raise
        finally:
            self._tracer.end(span, problem)

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """As the store's."""
        return await self._store.read(key, offset, size)

    async def delete(self, key: str) -> None:
        """As the store's."""
        await self._store.delete(key)

    async def address(self, key: str) -> str:
        """As the store's."""
        return await self._store.address(key)


class TracedSender:
    """A `Sender` whose calls are spans of their jobs. The receiver's address is not told."""

    def __init__(self, sender: Sender, tracer: JobTracer) -> None:
        self._sender = sender
        self._tracer = tracer

    async def send(self, call: OutboxCall, *, news: bool) -> Outcome:
        """As the sender's."""
        if call.job_id is None:
            return await self._sender.send(call, news=news)
        span = self._tracer.beside(call.job_id, "tell", **{"atelier.call": call.name})
        problem = "canceled"
        try:
            outcome = await self._sender.send(call, news=news)
            problem = _problem(outcome)
            if isinstance(outcome, Answered):
                span.set_attribute("http.response.status_code", outcome.status)
            return outcome
        finally:
            self._tracer.end(span, problem)


def _problem(outcome: Outcome) -> str:
    if isinstance(outcome, Answered):
        return "" if 200 <= outcome.status < 300 else "refused"
    return type(outcome).__name__.lower()


class TracedClaims:
    """`Claims` that tell of what was taken."""

    def __init__(self, claims: Claims, tracer: JobTracer) -> None:
        self._claims = claims
        self._tracer = tracer

    async def take(self, job_id: str, *, at: float) -> Job | None:
        """As the claims'."""
        job = await self._claims.take(job_id, at=at)
        if job is not None:
            self._tracer.taken(job)
        return job

    async def unclaimed(self, *, since: float, most: int) -> list[str]:
        """As the claims'."""
        return await self._claims.unclaimed(since=since, most=most)


class TracedLeases:
    """`Leases` that tell of what was taken up."""

    def __init__(self, leases: Leases, tracer: JobTracer) -> None:
        self._leases = leases
        self._tracer = tracer

    async def take_up(self, *, at: float, begin: bool) -> list[Job]:
        """As the leases'."""
        jobs = await self._leases.take_up(at=at, begin=begin)
        for job in jobs:
            self._tracer.taken(job)
        return jobs

    async def renew(self, *, at: float) -> None:
        """As the leases'."""
        await self._leases.renew(at=at)

    async def give_back(self, *, at: float) -> None:
        """As the leases'."""
        await self._leases.give_back(at=at)
