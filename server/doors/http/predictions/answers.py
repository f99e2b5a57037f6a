"""What is said of predictions: one, and a page of them in both dialects' words at once."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import urlencode

from pydantic import BaseModel, Field
from starlette.responses import Response

from server.doors.http.paging import cursor_text
from server.errors import Refusal
from server.job import JobState
from server.jobs.board import Board
from server.listing import JobPage
from server.prediction import STATUSES, Done, prediction
from server.replies import JobList, JobView

Status = Annotated[str, Field(json_schema_extra={"enum": list(dict.fromkeys(STATUSES.values()))})]


class PredictionBody(BaseModel):
    """A prediction. Times are ISO 8601 in UTC; `output` has the address of each picture, or what another kind of model gives."""

    id: str
    status: Status
    model: str = Field(description="owner/name.")
    model_id: str = Field(description="The model's own name.")
    version: str
    input: dict[str, Any] = Field(description="What was asked for, with every default filled in.")
    output: Any = Field(description="A list of addresses; a text, as far as it is written.")
    error: str | None
    error_code: str | None
    logs: str
    created_at: str
    started_at: str | None
    completed_at: str | None
    webhook: str | None
    progress: float = Field(description="0 to 1, over all pictures.")
    progress_step: int
    progress_total: int
    metrics: dict[str, float]
    urls: dict[str, str] = Field(description="get, cancel, stream, web.")


class PredictionsBody(BaseModel):
    """A page, newest first: `results` as Replicate names it, `predictions` the same list."""

    next: str | None = Field(description="The address of the page after it.")
    previous: str | None
    results: list[PredictionBody]
    predictions: list[PredictionBody]


def prediction_body(view: JobView, board: Board, base_url: str) -> dict[str, Any]:
    """One."""
    progress = board.progress(view.job.id)
    return prediction(
        view.job, Done(view.fraction, progress.step if progress else 0, board.said(view.job.id)), base_url=base_url
    )


def page_body(found: JobList, board: Board, base_url: str, path: str, query: dict[str, str]) -> Response:
    """A page; `query` is what its neighbours are to be asked with beside their cursor. The list is made once."""
    listed = json.dumps([prediction_body(view, board, base_url) for view in found.views], separators=(",", ":"))

    def address(newer: bool) -> str | None:
        if not found.views:
            return None
        end = found.views[0 if newer else -1].job
        return f"{base_url}{path}?{urlencode({**query, 'cursor': cursor_text(end, newer=newer)})}"

    following = json.dumps(address(False) if found.older else None)
    previous = json.dumps(address(True) if found.newer else None)
    text = f'{{"next":{following},"previous":{previous},"results":{listed},"predictions":{listed}}}'
    return Response(text, media_type="application/json")


_OF_STATUS = {
    status: frozenset(state for state, word in STATUSES.items() if word == status) for status in STATUSES.values()
}


def page_in(status: str, skip: int, limit: int) -> JobPage:
    """The page of predictions in a status ("" for all). What its deadline ended is canceled, not failed. Raises Refusal."""
    if not status:
        return JobPage(skip=skip, most=limit)
    if status not in _OF_STATUS:
        raise Refusal.invalid("status", f"one of {', '.join(_OF_STATUS)}", status)
    states = _OF_STATUS[status]
    overdue: bool | None = None
    if JobState.CANCELED in states:
        states, overdue = states | {JobState.FAILED}, True
    elif JobState.FAILED in states:
        overdue = False
    return JobPage(states=states, overdue=overdue, skip=skip, most=limit)
