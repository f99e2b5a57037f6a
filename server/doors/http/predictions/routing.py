"""The routes of predictions, and of the models that they are made with."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from server.commands import MAX_IDEMPOTENCY_KEY, ListJobs
from server.doors.http.errors import documented, linked
from server.doors.http.events import CONTENT, EventStream
from server.doors.http.identity import Identify, Owner
from server.doors.http.paging import Cursor, page_of
from server.doors.http.parts import HttpParts, cancel, carry_out, has_ended, listen_to
from server.doors.http.pictures import base_url
from server.doors.http.predictions.answers import (
    PredictionBody,
    PredictionsBody,
    page_body,
    page_in,
)
from server.doors.http.predictions.asking import (
    ModelPredictionRequest,
    PredictionRequest,
)
from server.doors.http.predictions.making import Predictions
from server.doors.http.predictions.models import described_version, main_version, model_body, version_body, versions_of
from server.doors.http.predictions.streaming import Heard, encoding, has_heard_all, heard_last
from server.doors.http.predictions.wishes import (
    CancelAfterHeader,
    PreferHeader,
)
from server.doors.http.waiting import wait_for_end
from server.errors import Code, Refusal
from server.job import JobState
from server.listing import MOST, MOST_SKIPPED
from server.model_names import not_here
from server.prediction import STATUSES, status_of
from server.principal import Principal, Scope
from server.replies import JobList, ModelView
from server.webhook_secrets import owner_secret

CANCEL_SECONDS = (
    5.0  # that the answer to a cancel waits for the end, so that it says canceled: a step or two of a slow engine
)

PredictionId = Annotated[
    str, Path(max_length=MAX_IDEMPOTENCY_KEY, description="A prediction's id, or the one that it was PUT under.")
]
Word = Annotated[str, Path(max_length=200)]
KeyHeader = Annotated[str, Header(max_length=MAX_IDEMPOTENCY_KEY, description="One key, one prediction.")]
LINKS = linked(get_prediction="prediction_id", cancel_prediction="prediction_id", stream_prediction="prediction_id")
CREATED: dict[int | str, dict[str, Any]] = {
    200: {"model": PredictionBody, "description": "There was one under this key.", **LINKS},
    201: LINKS,
    202: {
        "model": PredictionBody,
        "description": "Created, and not at its end: it was not, or no longer, waited for.",
        **LINKS,
    },
    **documented(404, 409, 429),
}


class SecretBody(BaseModel):
    """What webhooks are signed with."""

    key: str


def routes(parts: HttpParts) -> APIRouter:
    """/v1/predictions, /v1/models/{owner}/{name}, /v1/webhooks."""
    router = APIRouter(prefix="/v1")
    here = Predictions(parts)
    _add_predictions(router, here)
    _add_streams(router, here)
    _add_models(router, here)
    _add_webhooks(router, here)
    return router


def _add_predictions(router: APIRouter, here: Predictions) -> None:
    parts = here.parts

    @router.post(
        "/predictions",
        status_code=201,
        response_model=PredictionBody,
        responses=CREATED,
        operation_id="create_prediction",
        tags=["predictions"],
    )
    async def create_prediction(
        request: Request,
        asked: PredictionRequest,
        owner: Owner,
        prefer: PreferHeader = "",
        cancel_after: CancelAfterHeader = "",
        idempotency_key: KeyHeader = "",
    ) -> Response:
        """Ask for pictures, or for what another kind of model gives. Answers when that is recorded, or, with `Prefer: wait`, when
        it is there."""
        model = await here.model_asked_for(owner, asked)
        return await here.create(request, asked, owner, model, prefer, cancel_after, idempotency_key)

    @router.put(
        "/predictions/{prediction_id}",
        status_code=201,
        response_model=PredictionBody,
        responses=CREATED,
        operation_id="put_prediction",
        tags=["predictions"],
    )
    async def put_prediction(
        request: Request,
        prediction_id: PredictionId,
        asked: PredictionRequest,
        owner: Owner,
        prefer: PreferHeader = "",
        cancel_after: CancelAfterHeader = "",
    ) -> Response:
        """The same, under an id of yours: again, it answers with the first one."""
        model = await here.model_asked_for(owner, asked)
        return await here.create(request, asked, owner, model, prefer, cancel_after, prediction_id)

    @router.get("/predictions", response_model=PredictionsBody, operation_id="list_predictions", tags=["predictions"])
    async def list_predictions(
        request: Request,
        owner: Owner,
        cursor: Cursor = "",
        skip: Annotated[int, Query(ge=0, le=MOST_SKIPPED)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST)] = MOST,
        status: Annotated[
            str, Query(max_length=20, json_schema_extra={"enum": ["", *sorted(set(STATUSES.values()))]})
        ] = "",
    ) -> Response:
        """Yours, newest first."""
        page = page_of(cursor, page_in(status, skip, limit))
        found: JobList = await carry_out(parts, ListJobs(owner=owner, page=page))
        kept = {"status": status} if status else {}
        if limit != MOST:
            kept["limit"] = str(limit)
        return page_body(found, parts.board, base_url(parts, request), "/v1/predictions", kept)

    @router.get(
        "/predictions/{prediction_id}",
        response_model=PredictionBody,
        responses=documented(404),
        operation_id="get_prediction",
        tags=["predictions"],
    )
    async def get_prediction(request: Request, prediction_id: PredictionId, owner: Owner) -> Response:
        """A prediction as it stands."""
        return here.told(request, await here.find(owner, prediction_id))

    @router.post(
        "/predictions/{prediction_id}/cancel",
        response_model=PredictionBody,
        responses=documented(404),
        operation_id="cancel_prediction",
        tags=["predictions"],
    )
    async def cancel_prediction(request: Request, prediction_id: PredictionId, owner: Owner) -> Response:
        """Stop it: its place is free at the next step. One that has ended stays as it is."""
        view = await here.find(owner, prediction_id)
        await cancel(parts, owner, view.job.id)
        return here.told(request, await wait_for_end(parts, request, owner, view.job.id, CANCEL_SECONDS))


def _add_streams(router: APIRouter, here: Predictions) -> None:
    parts = here.parts

    @router.get(
        "/predictions/{prediction_id}/stream",
        response_class=Response,
        responses={
            200: {"content": CONTENT, "description": "Its events."},
            204: {"description": "It has ended, and all was heard: do not come back."},
            **documented(404),
        },
        operation_id="stream_prediction",
        tags=["predictions"],
    )
    async def stream_prediction(
        request: Request,
        prediction_id: PredictionId,
        owner: Owner,
        progress: bool = False,
        last_event_id: Annotated[str | None, Header()] = None,
    ) -> Response:
        """Server-sent events: logs (or progress), output, error, done."""
        job = (view := await here.find(owner, prediction_id)).job
        heard = heard_last(last_event_id) or Heard()
        told_as_failed = status_of(job) == STATUSES[JobState.FAILED]
        outputs = len(job.artifacts) or (job.output is not None)
        if has_ended(view) and has_heard_all(heard, view.last_event, outputs, failed=told_as_failed):
            return Response(status_code=204)
        from_event = heard.number + (heard.part < 0 and heard.told == 0)
        listener = await listen_to(parts, owner, job.id, max(0, from_event), previews=False)
        has_deadline = job.deadline_seconds is not None
        encode = encoding(base_url(parts, request), progress=progress, heard=heard, has_deadline=has_deadline)
        return EventStream(listener, encode)


def _add_models(router: APIRouter, here: Predictions) -> None:
    parts = here.parts

    @router.get(
        "/models/{model_owner}/{name}", responses=documented(404), operation_id="describe_model", tags=["models"]
    )
    async def get_model(request: Request, model_owner: Word, name: Word, owner: Owner) -> JSONResponse:
        """A model, with its latest version."""
        view = await here.offered(owner, model_owner, name)
        return JSONResponse(model_body(view, parts.request_limits, base_url(parts, request), here.since))

    @router.get(
        "/models/{model_owner}/{name}/versions",
        responses=documented(404),
        operation_id="list_versions",
        tags=["models"],
    )
    async def list_versions(model_owner: Word, name: Word, owner: Owner) -> JSONResponse:
        """Its versions, the newest first; a model of the settings has one."""
        view = await here.offered(owner, model_owner, name)
        versions = [version_body(one, parts.request_limits) for one in versions_of(view, here.since)]
        return JSONResponse({"previous": None, "next": None, "results": versions})

    @router.get(
        "/models/{model_owner}/{name}/versions/{version}",
        responses=documented(404),
        operation_id="get_version",
        tags=["models"],
    )
    async def get_version(model_owner: Word, name: Word, version: Word, owner: Owner) -> JSONResponse:
        """A version, with the OpenAPI schema of what goes in and comes out."""
        found = await here.model(owner, model_owner, name, version)
        described = None if found.version is None else described_version(found.version)
        if found.version is None and isinstance(found.model, ModelView):
            described = main_version(found.model, here.since)
        if described is None:
            raise not_here(version, (view.name for view in parts.health.models()), "version")
        return JSONResponse(version_body(described, parts.request_limits))

    @router.post(
        "/models/{model_owner}/{name}/predictions",
        status_code=201,
        response_model=PredictionBody,
        responses=CREATED,
        operation_id="create_prediction_of_model",
        tags=["predictions"],
    )
    async def create_of_model(
        request: Request,
        model_owner: Word,
        name: Word,
        asked: ModelPredictionRequest,
        owner: Owner,
        prefer: PreferHeader = "",
        cancel_after: CancelAfterHeader = "",
        idempotency_key: KeyHeader = "",
    ) -> Response:
        """As POST /v1/predictions, of the path's model."""
        model = await here.model(owner, model_owner, name)
        return await here.create(request, asked, owner, model, prefer, cancel_after, idempotency_key)

    @router.post(
        "/models/{model_owner}/{name}/versions/{version}/predictions",
        status_code=201,
        response_model=PredictionBody,
        responses=CREATED,
        operation_id="create_prediction_of_version",
        tags=["predictions"],
    )
    async def create_of_version(
        request: Request,
        model_owner: Word,
        name: Word,
        version: Word,
        asked: ModelPredictionRequest,
        owner: Owner,
        prefer: PreferHeader = "",
        cancel_after: CancelAfterHeader = "",
        idempotency_key: KeyHeader = "",
    ) -> Response:
        """As POST /v1/predictions, of the path's version."""
        model = await here.model(owner, model_owner, name, version)
        return await here.create(request, asked, owner, model, prefer, cancel_after, idempotency_key)


def _add_webhooks(router: APIRouter, here: Predictions) -> None:
    @router.get(
        "/webhooks/default/secret",
        response_model=SecretBody,
        responses=documented(404),
        operation_id="get_webhook_secret",
        tags=["webhooks"],
    )
    async def get_webhook_secret(asker: Annotated[Principal, Depends(Identify(Scope.GENERATE))]) -> JSONResponse:
        """The key by which your receivers know that a webhook is this server's: yours alone. Not for those without a token."""
        if asker.owner == here.parts.anonymous_owner:
            raise Refusal(Code.PERMISSION_DENIED, "the webhooks' secret is told to those with a token alone")
        secret = here.parts.webhook_secret
        if secret is None or not secret.get_secret_value():
            raise Refusal(Code.UNKNOWN_MESSAGE, "this server has no ATELIER_WEBHOOK_SECRET, and calls no webhooks")
        return JSONResponse({"key": owner_secret(secret, asker.owner)})
