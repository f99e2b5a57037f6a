"""Requests that are answered when their job has ended: what they prefer, and what becomes of a job without its client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog
from starlette.requests import ClientDisconnect, Request

from server.doors.http.events import Revocation
from server.doors.http.following import Listener
from server.doors.http.parts import HttpParts, cancel, listen_to, look_at, watch_client
from server.doors.http.prefer import preferences
from server.errors import AtelierError, Code, JobFailure, Refusal
from server.job import JobState
from server.replies import JobView

log = structlog.get_logger("atelier.http")

GRACE = 5.0  # seconds after a job's deadline for its failure to be recorded; longer only where nobody runs the job


@dataclass(frozen=True, slots=True)
class Preference:
    """What a request's Prefer says (RFC 7240): answer before the end, and how many seconds to wait until then."""

    respond_async: bool = False
    wait: float | None = None


def preference_of(headers: Iterable[str]) -> Preference:
    """What is not understood means nothing."""
    told = preferences(headers)
    value = told.get("wait") or ""
    known = value.isascii() and value.isdigit() and len(value) < 7
    return Preference("respond-async" in told, float(value) if known else None)


async def wait_for_end(parts: HttpParts, request: Request, owner: str, job_id: str, seconds: float) -> JobView:
    """The job when it has ended, or as it stands after `seconds`, or when the server stops.

    The request's body must have been read. Raises Refusal (JOB_NOT_FOUND; UNAUTHENTICATED where the credential is good no more
    before the job has ended), and ClientDisconnect where the client went away: the job lives on.
    """
    async with await listen_to(parts, owner, job_id, progress=False, previews=False) as listener:
        revocation = Revocation(request, listener)
        timer = parts.clock.callLater(seconds, listener.let_go)
        try:
            async with _until_gone(request, listener) as gone:
                async for _ in listener:
                    pass
        finally:
            revocation.over()
            if timer.active():
                timer.cancel()
        if not listener.ended:
            if revocation.refusal is not None:
                raise revocation.refusal
            if gone.done():
                raise ClientDisconnect
    return await look_at(parts, owner, job_id)


async def wait_or_cancel(
    parts: HttpParts, request: Request, owner: str, job_id: str, seconds: float, *, keeps: bool
) -> JobView:
    """As `wait_for_end`; if the client goes away its job is cancelled, where the settings say so and nobody `keeps` it: who has
    an idempotency key can come back for the picture."""
    try:
        return await wait_for_end(parts, request, owner, job_id, seconds)
    except ClientDisconnect:
        if parts.waits.cancel_on_disconnect and not keeps:
            log.info("request.given_up", job=job_id)
            await asyncio.shield(asyncio.ensure_future(cancel(parts, owner, job_id)))
        raise


async def end_of(parts: HttpParts, owner: str, view: JobView, seconds: float, *, keeps: bool = False) -> JobView:
    """A job that was waited for, if it has succeeded. One that was not done in `seconds` is cancelled, unless its client
    `keeps` it: who has an idempotency key can ask again.

    Raises what it failed with, or a Refusal.
    """
    job = view.job
    if job.state is JobState.SUCCEEDED:
        return view
    if job.failure is not None and job.state is JobState.FAILED:
        raise JobFailure(
            job.failure.code,
            job.failure.message,
            field=job.failure.field,
            limit=job.failure.limit,
            retry_after_seconds=job.failure.retry_after_seconds,
        )
    if job.state is JobState.CANCELED:
        raise JobCanceled(job.id)
    if parts.health.draining:
        text = f"the server is stopping; job {job.id} goes on after its next start"
        raise Refusal(Code.UNAVAILABLE, text, retry_after_seconds=5.0)
    if keeps:
        text = f"job {job.id} was not done in {seconds:g} s; it goes on, ask again with the same key"
        raise Refusal(Code.DEADLINE_EXCEEDED, text, retry_after_seconds=5.0)
    await cancel(parts, owner, job.id)
    raise Refusal(Code.DEADLINE_EXCEEDED, f"job {job.id} was not done in {seconds:g} s, and is cancelled")


class JobCanceled(AtelierError):
    """Somebody cancelled the job that is waited for."""

    def __init__(self, job_id: str) -> None:
        super().__init__(Code.GENERATION_FAILED, f"job {job_id} was cancelled")


@asynccontextmanager
async def _until_gone(request: Request, listener: Listener) -> AsyncIterator[asyncio.Task[None]]:
    """Lets the listener go when the client does."""
    watching = asyncio.ensure_future(watch_client(request.receive, listener))
    try:
        yield watching
    finally:
        watching.cancel()
