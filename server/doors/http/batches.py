"""Many jobs in one request, and all their events in one stream.

Each job is admitted by itself: one that is refused says so in its place, and the others go on. What is refused whole is a body
that cannot be read, or of which no job was taken. A batch has no record of its own: job i of batch B has the idempotency key
"batch B/i", so that it is found again after any restart and at any node. The same request under the same key is the same batch,
and tries those jobs again that were refused (a full queue).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import secrets
from dataclasses import dataclass, replace
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from server.commands import ListJobs, Submit
from server.doors.http.choir import Choir
from server.doors.http.errors import ErrorBody, documented, error_of, linked
from server.doors.http.events import EventStream, told
from server.doors.http.identity import Owner
from server.doors.http.jobs import EVENTS, IdempotencyKey, LastEventId
from server.doors.http.parts import HttpParts, cancel, carry_out, has_ended, submit
from server.doors.http.pictures import base_url
from server.doors.http.schemas import MAX_TEXT, JobBody, JobRequest, StrictRequest, from_base64, job_body
from server.errors import Code, Refusal
from server.events import Accepted, Event, TerminalEvent
from server.listing import MOST, JobPage
from server.replies import JobList, JobView

MOST_JOBS = 1000  # the largest setting
AT_ONCE = 16  # jobs of a batch that are looked up or admitted together; they share commits

_BATCH_ID = re.compile(r"([0-9a-f]{32})-([1-9][0-9]{0,3})")
_HEARD = re.compile(r"([0-9a-f]{1,250})-([0-9a-f]{1,250})")
LINKS = linked(get_batch="batch_id", cancel_batch="batch_id", follow_batch="batch_id")
BatchId = Annotated[str, Path(max_length=64, description="The id that the batch was answered with.")]


class SharedRequest(JobRequest):
    """What every job of the batch is asked for with, unless it says otherwise."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"seed": 7}]})
    prompt: str = Field("", max_length=MAX_TEXT)


class BatchRequest(StrictRequest):
    """Either `prompts`, one job each, or whole `jobs`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "prompts": ["a big green tree", "a small red star"],
                    "shared": {"seed": 7, "num_inference_steps": 4},
                }
            ]
        },
    )
    prompts: list[Annotated[str, Field(min_length=1, max_length=MAX_TEXT)]] = Field(
        [], max_length=MOST_JOBS, fail_fast=True
    )
    jobs: list[JobRequest] = Field([], max_length=MOST_JOBS, fail_fast=True)
    shared: SharedRequest | None = None
    idempotency_key: str = Field("", max_length=150, description="The header Idempotency-Key says the same.")


class BatchItem(BaseModel):
    """One job, or why there is none."""

    index: int
    job: JobBody | None
    error: ErrorBody | None


class BatchBody(BaseModel):
    """A batch; `accepted` of its jobs exist."""

    id: str
    accepted: int
    items: list[BatchItem]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch's id, taken apart."""

    stem: str
    count: int

    @property
    def id(self) -> str:
        """As clients have it."""
        return f"{self.stem}-{self.count}"

    def key(self, index: int) -> str:
        """The idempotency key of one of its jobs."""
        return f"batch {self.stem}/{index}"


def routes(parts: HttpParts) -> APIRouter:
    """/v1/jobs/batch."""
    router = APIRouter(prefix="/v1/jobs/batch", tags=["jobs"])

    @router.post(
        "",
        status_code=202,
        response_model=BatchBody,
        responses={
            200: {"model": BatchBody, "description": "All of it was there under this key.", **LINKS},
            202: LINKS,
            **documented(404, 409, 429),
        },
        operation_id="submit_batch",
    )
    async def submit_batch(
        request: Request, asked: BatchRequest, owner: Owner, idempotency_key: IdempotencyKey = ""
    ) -> Response:
        """Ask for many jobs at once. Each is taken or refused by itself; what is refused, all of it, is told as an error."""
        wanted = _jobs_of(asked, parts.limits.max_batch)
        batch = Batch(_stem(owner, idempotency_key or asked.idempotency_key), len(wanted))
        images = _Images()
        outcomes = await _each(
            [_admitted(parts, one, images, owner, batch.key(index)) for index, one in enumerate(wanted)]
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, Refusal)]
        if len(refused) == len(outcomes):
            raise refused[0]
        new = any(isinstance(outcome, tuple) and outcome[1] for outcome in outcomes)
        views = [outcome if isinstance(outcome, Refusal) else outcome[0] for outcome in outcomes]
        body = _body(parts, batch, views, base_url(parts, request))
        headers = {"Location": f"/v1/jobs/batch/{batch.id}"}
        return Response(body, 202 if new else 200, headers, "application/json")

    @router.get("/{batch_id}", response_model=BatchBody, responses=documented(404), operation_id="get_batch")
    async def get_batch(request: Request, batch_id: BatchId, owner: Owner) -> Response:
        """Its jobs as they stand; those that were refused have neither `job` nor `error`."""
        batch = _batch(batch_id, parts.limits.max_batch)
        views = await _views(parts, owner, batch)
        return Response(_body(parts, batch, views, base_url(parts, request)), media_type="application/json")

    @router.post(
        "/{batch_id}/cancel",
        status_code=202,
        response_model=BatchBody,
        responses=documented(404),
        operation_id="cancel_batch",
    )
    async def cancel_batch(request: Request, batch_id: BatchId, owner: Owner) -> Response:
        """Stop all of its jobs; the answer has them as they stood."""
        batch = _batch(batch_id, parts.limits.max_batch)
        views = await _views(parts, owner, batch)
        await _each([cancel(parts, owner, view.job.id) for view in views if view and not has_ended(view)])
        return Response(_body(parts, batch, views, base_url(parts, request)), 202, media_type="application/json")

    @router.get(
        "/{batch_id}/events",
        response_class=Response,
        responses={**EVENTS, **documented(404)},
        operation_id="follow_batch",
    )
    async def follow_batch(
        request: Request,
        batch_id: BatchId,
        owner: Owner,
        progress: bool = True,
        previews: bool = True,
        last_event_id: LastEventId = None,
    ) -> Response:
        """The events of all its jobs, each with its `index`, to the last job's end."""
        batch = _batch(batch_id, parts.limits.max_batch)
        views = await _views(parts, owner, batch)
        heard = Heard.read(last_event_id)
        index_of = {view.job.id: index for index, view in enumerate(views) if view}
        jobs = [(name, heard.from_event(index)) for name, index in index_of.items() if not heard.end_of(index)]
        if not jobs:
            return Response(status_code=204)
        choir = Choir(parts.board, parts.listeners, jobs, progress=progress, previews=previews)
        own = base_url(parts, request)
        return EventStream(choir, lambda event: heard.sse(event, index_of[event.job_id], own))

    return router


class Heard:
    """What a client of a batch's events has heard, in two numbers whose bits are the jobs: accepted, ended. It is the events' id,
    in hexadecimal ("3-1": both of two jobs were accepted, the first has ended); what lies between passes anyway."""

    def __init__(self, accepted: int = 0, ended: int = 0) -> None:
        self._accepted = accepted
        self._ended = ended

    @classmethod
    def read(cls, last_event_id: str | None) -> Heard:
        """Of a Last-Event-ID; what is none of ours says nothing."""
        found = _HEARD.fullmatch(last_event_id or "")
        return cls(*(int(part, 16) for part in found.groups())) if found else cls()

    def end_of(self, index: int) -> bool:
        """Whether a job's end was heard."""
        return bool(self._ended >> index & 1)

    def from_event(self, index: int) -> int:
        """The first event that a job has still to say."""
        return self._accepted >> index & 1

    def sse(self, event: Event, index: int, base_url: str) -> bytes:
        """An event as text/event-stream has it."""
        if isinstance(event, Accepted):
            self._accepted |= 1 << index
        elif isinstance(event, TerminalEvent):
            self._ended |= 1 << index
        body = {"index": index, **told(event, base_url)}
        data = json.dumps(body, separators=(",", ":"))
        return f"id: {self._accepted:x}-{self._ended:x}\nevent: {body['event']}\ndata: {data}\n\n".encode()


def _jobs_of(asked: BatchRequest, most: int) -> list[JobRequest]:
    """Every job with what is shared. Raises Refusal."""
    if bool(asked.prompts) == bool(asked.jobs):
        raise Refusal.invalid("prompts", "given, or jobs, and not both", len(asked.prompts))
    field = "jobs" if asked.jobs else "prompts"
    jobs = asked.jobs or [JobRequest.model_construct({"prompt"}, prompt=prompt) for prompt in asked.prompts]
    if len(jobs) > most:
        raise Refusal.invalid(field, f"at most {most}", len(jobs))
    if any(one.idempotency_key for one in (*jobs, *([asked.shared] if asked.shared else []))):
        raise Refusal.invalid("idempotency_key", "the batch's, and left out of its jobs", "one of a job")
    return [_with(one, asked.shared) for one in jobs]


def _with(one: JobRequest, shared: SharedRequest | None) -> JobRequest:
    if shared is None:
        return one
    missing = shared.model_fields_set - one.model_fields_set - {"prompt"}
    return one.model_copy(update={name: getattr(shared, name) for name in missing})


class _Images:
    """The init images of a batch: one that several jobs share is read once, and its bytes are theirs together."""

    def __init__(self) -> None:
        self._read: dict[str, bytes] = {}

    def of(self, one: JobRequest) -> bytes:
        """Raises Refusal."""
        text = one.init_image or ""
        if text not in self._read:
            self._read[text] = from_base64("init_image", text)
        return self._read[text]


def _stem(owner: str, key: str) -> str:
    return hashlib.sha256(f"{owner}\n{key}".encode()).hexdigest()[:32] if key else secrets.token_hex(16)


def _batch(batch_id: str, most: int) -> Batch:
    """Raises Refusal (JOB_NOT_FOUND)."""
    found = _BATCH_ID.fullmatch(batch_id)
    if found is None or int(found[2]) > most:
        raise _not_found(batch_id)
    return Batch(found[1], int(found[2]))


def _not_found(batch_id: str) -> Refusal:
    return Refusal(
        Code.JOB_NOT_FOUND, f"no batch {batch_id[:60]!r} of yours", field="batch_id", limit="the id of a batch of yours"
    )


async def _each(work: list[Any]) -> list[Any]:
    """All of it, a few at a time, in order; a Refusal is its own result."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def one(what: Any) -> Any:
        async with turns:
            try:
                return await what
            except Refusal as refusal:
                return refusal

    return await asyncio.gather(*map(one, work))


async def _admitted(parts: HttpParts, one: JobRequest, images: _Images, owner: str, key: str) -> tuple[JobView, bool]:
    """A job, and whether it is new. Raises Refusal."""
    command: Submit = replace(one.command(owner, init_image=images.of(one)), idempotency_key=key)
    admitted = await submit(parts, command)
    return parts.board.view(admitted.job), not admitted.duplicate


async def _views(parts: HttpParts, owner: str, batch: Batch) -> list[JobView | None]:
    """Its jobs in order, None for what was refused: a page's worth by each question to the records, since anyone can make up the
    id of a batch. Raises Refusal (JOB_NOT_FOUND) where there is none at all."""
    keys = [batch.key(index) for index in range(batch.count)]
    found: dict[str, JobView] = {}
    for begin in range(0, len(keys), MOST):
        page = JobPage(keys=frozenset(keys[begin : begin + MOST]))
        listed: JobList = await carry_out(parts, ListJobs(owner=owner, page=page))
        found.update((view.job.idempotency_key, view) for view in listed.views)
    if not found:
        raise _not_found(batch.id)
    return [found.get(key) for key in keys]


def _body(parts: HttpParts, batch: Batch, views: list[Any], own: str) -> str:
    items = []
    for index, view in enumerate(views):
        job = job_body(view, own) if isinstance(view, JobView) else None
        error = ErrorBody(**error_of(view, parts.clock.seconds())) if isinstance(view, Refusal) else None
        items.append(BatchItem(index=index, job=job, error=error))
    accepted = sum(item.job is not None for item in items)
    return BatchBody(id=batch.id, accepted=accepted, items=items).model_dump_json()
