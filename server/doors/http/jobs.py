"""The own routes: submit a job, look at it, cancel it, hear what it says."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response, WebSocket
from fastapi.responses import JSONResponse

from server.commands import MAX_IDEMPOTENCY_KEY, ListJobs
from server.doors.http.errors import documented, linked
from server.doors.http.events import CONTENT, EventStream, sse, tell_socket
from server.doors.http.identity import Owner, owner_who_may
from server.doors.http.paging import Cursor, cursor_text, page_of
from server.doors.http.parts import HttpParts, cancel, carry_out, has_ended, listen_to, look_at, submit
from server.doors.http.pictures import base_url
from server.doors.http.schemas import CancelBody, JobBody, JobRequest, JobsBody, job_body
from server.doors.http.shortcuts import ByBody
from server.job import JobState
from server.listing import MOST, JobPage
from server.principal import Scope
from server.replies import JobList

JobId = Annotated[str, Path(max_length=64, description="The id that the job was accepted with.")]
FromEvent = Annotated[int, Query(ge=0, le=2**53, description="Tell nothing earlier than this event, but for the end.")]
LastEventId = Annotated[str | None, Header(description="What was heard last; set by browsers that come back.")]
IdempotencyKey = Annotated[str, Header(max_length=MAX_IDEMPOTENCY_KEY, description="One key, one job.")]
EVENTS: dict[int | str, dict[str, Any]] = {
    200: {"content": CONTENT, "description": "The job's events."},
    204: {"description": "The job has ended, and its end was heard: do not come back."},
}

LINKS = linked(get_job="job_id", cancel_job="job_id", follow_job="job_id")


def routes(parts: HttpParts) -> APIRouter:
    """/v1/jobs."""
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

    @router.post(
        "",
        status_code=202,
        response_model=JobBody,
        responses={
            200: {"model": JobBody, "description": "There was one under this key.", **LINKS},
            202: LINKS,
            **documented(404, 409, 429),
        },
        operation_id="submit_job",
    )
    async def submit_job(
        request: Request, asked: JobRequest, owner: Owner, idempotency_key: IdempotencyKey = ""
    ) -> Response:
        """Ask for pictures. Answers when the job is recorded; what becomes of it is told by its events."""
        return await _submitted(parts, request, asked, owner, idempotency_key)

    @router.get("", response_model=JobsBody, operation_id="list_jobs")
    async def list_jobs(
        request: Request,
        owner: Owner,
        cursor: Cursor = "",
        limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
        state: Annotated[list[JobState], Query(max_length=10, description="Only jobs in these states.")] = [],  # noqa: B006
    ) -> Response:
        """Your jobs, newest first."""
        page = page_of(cursor, JobPage(states=frozenset(state), most=limit))
        found: JobList = await carry_out(parts, ListJobs(owner=owner, page=page))
        own = base_url(parts, request)
        body = JobsBody(
            jobs=[job_body(view, own) for view in found.views],
            next=cursor_text(found.views[-1].job) if found.older and found.views else None,
        )
        return Response(body.model_dump_json(), media_type="application/json")

    @router.get("/{job_id}", response_model=JobBody, responses=documented(404), operation_id="get_job")
    async def get_job(request: Request, job_id: JobId, owner: Owner) -> Response:
        """A job as it stands."""
        body = job_body(await look_at(parts, owner, job_id), base_url(parts, request))
        return Response(body.model_dump_json(), media_type="application/json")

    @router.post(
        "/{job_id}/cancel",
        status_code=202,
        response_model=CancelBody,
        responses=documented(404),
        operation_id="cancel_job",
    )
    async def cancel_job(job_id: JobId, owner: Owner) -> Response:
        """Stop a job; its place is free at the next step. One that has ended is left as it is."""
        reply = await cancel(parts, owner, job_id)
        return JSONResponse({"id": reply.job_id, "state": reply.state.value}, 202)

    @router.get(
        "/{job_id}/events",
        response_class=Response,
        responses={**EVENTS, **documented(404)},
        operation_id="follow_job",
    )
    async def follow_job(
        request: Request,
        job_id: JobId,
        owner: Owner,
        from_event: FromEvent = 0,
        progress: bool = True,
        previews: bool = True,
        last_event_id: LastEventId = None,
    ) -> Response:
        """Server-sent events: accepted, progress, preview, output, and one of succeeded, failed, canceled."""
        heard = heard_last(last_event_id)
        if heard is not None:
            view = await look_at(parts, owner, job_id)
            if has_ended(view) and heard >= view.last_event:
                return Response(status_code=204)
            from_event = max(from_event, heard + 1)
        listener = await listen_to(parts, owner, job_id, from_event, progress=progress, previews=previews)
        own = base_url(parts, request)
        return EventStream(listener, lambda event: sse(event, own))

    @router.websocket("/{job_id}/ws")
    async def follow_job_by_socket(socket: WebSocket, job_id: JobId, owner: Owner, from_event: FromEvent = 0) -> None:
        """The same events, each a text message with its JSON."""
        listener = await listen_to(parts, owner, job_id, from_event)
        await tell_socket(socket, listener, base_url(parts, socket))

    return router


async def _submitted(parts: HttpParts, request: Request, asked: JobRequest, owner: str, key: str) -> Response:
    """The answer to a Submit. Raises Refusal."""
    admitted = await submit(parts, asked.command(owner, key))
    job = admitted.job
    body = job_body(parts.board.view(job), base_url(parts, request))
    return Response(
        body.model_dump_json(),
        200 if admitted.duplicate else 202,
        {"Location": f"/v1/jobs/{job.id}"},
        "application/json",
    )


def shortcut(parts: HttpParts) -> ByBody:
    """POST /v1/jobs for a body that fits."""

    async def submit_job(request: Request, body: bytes) -> Response | None:
        headers = request.headers
        key = headers.get("idempotency-key", "")
        if headers.get("content-type") != "application/json" or len(key) > MAX_IDEMPOTENCY_KEY:
            return None
        try:
            asked = JobRequest.model_validate(json.loads(body))
        except (ValueError, RecursionError):
            return None
        owner = await owner_who_may(parts, request, Scope.GENERATE)
        return await _submitted(parts, request, asked, owner, key)

    return submit_job


def heard_last(last_event_id: str | None) -> int | None:
    """The number in Last-Event-ID. What is no number of ours says nothing: EventSource cannot be told to mend it."""
    if last_event_id is None or not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 15:
        return None
    return int(last_event_id)
