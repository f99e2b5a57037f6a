"""What can be painted with, in one body for three kinds of client.

OpenAI's clients read `object` and `data`, and of each model `id`, `object`, `created`, `owned_by`; a prediction platform's read
`models`, and of each `id`, `name`, `description`, `model_type`, … `data` and `models` are the same list. What a model offers here
(adapters, solvers) and its state stand beside. Replicate's read `results`, with `next` and `previous`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from ai.cards import Card, ModelCard
from server.commands import ListModels
from server.doors.http.errors import documented, time_text
from server.doors.http.identity import Owner
from server.doors.http.parts import HttpParts, carry_out
from server.doors.http.pictures import base_url
from server.doors.http.predictions.models import input_properties
from server.doors.http.predictions.models import model_body as predicting_model
from server.errors import Code, Refusal
from server.jobs.admission import Limits
from server.replies import ModelList, ModelState, ModelView

MOST = 1000  # models in one answer; a node has a few
OWNED_BY = "atelier"  # until models are records with owners of their own
VERSION = "1.0.0"

Skip = Annotated[int, Query(ge=0, le=1_000_000, description="Leave out so many of the first.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="At most so many.")]
ModelName = Annotated[
    str, Path(min_length=1, max_length=100, description="As GET /v1/models has it.", examples=["demo"])
]


class InputBody(BaseModel):
    """One input of a model."""

    type: str
    description: str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    enum: list[Any] | None = None


class ModelBody(BaseModel):
    """A model. `created` and the other times are when this server began to offer it."""

    id: str
    object: Literal["model"]
    created: int = Field(description="Seconds since 1970.")
    owned_by: str
    name: str
    description: str
    model_type: str
    version: str
    model_path: str = Field(description="Its name: where its files are is the server's own business.")
    input_schema: dict[str, InputBody]
    hardware: str
    created_at: str
    updated_at: str
    owner_id: str
    state: str = Field(json_schema_extra={"enum": [state.value for state in ModelState]})
    problem: str = Field(description="Why it is unavailable.")
    adapters: list[str]
    solvers: list[str]


class ModelsBody(BaseModel):
    """`data` and `models` are the same; `results` are the same models as Replicate describes them. There is one page."""

    object: Literal["list"]
    data: list[ModelBody]
    models: list[ModelBody]
    next: str | None
    previous: str | None
    results: list[dict[str, Any]]


def routes(parts: HttpParts) -> APIRouter:
    """/v1/models. A model's name may hold a slash: /v1/models/{owner}/{name} is another route's."""
    router = APIRouter(prefix="/v1/models", tags=["models"])
    offered_since = parts.clock.seconds()

    @router.get("", response_model=ModelsBody, operation_id="list_models")
    async def list_models(request: Request, owner: Owner, skip: Skip = 0, limit: Limit = MOST) -> Response:
        """Every model, the default first."""
        listed = (await _models(parts)).models[skip : skip + limit]
        limits, address = parts.request_limits, base_url(parts, request)
        found = [model_body(view, limits, offered_since) for view in listed]
        results = [predicting_model(view, limits, address, offered_since) for view in listed]
        page = {"next": None, "previous": None, "results": results}
        return JSONResponse({"object": "list", "data": found, "models": found, **page})

    @router.get("/{model_id}", response_model=ModelBody, responses=documented(404), operation_id="get_model")
    async def get_model(owner: Owner, model_id: ModelName) -> Response:
        """One model."""
        return JSONResponse(model_body(await find_model(parts, model_id), parts.request_limits, offered_since))

    return router


async def find_model(parts: HttpParts, name: str) -> ModelView:
    """Raises Refusal (MODEL_NOT_FOUND)."""
    listed = await _models(parts)
    for view in listed.models:
        if view.card.name == name:
            return view
    limit = f"one of {', '.join(view.card.name for view in listed.models)}"
    raise Refusal(Code.MODEL_NOT_FOUND, f"there is no model {name[:60]!r} here", field="model", limit=limit)


async def _models(parts: HttpParts) -> ModelList:
    listed: ModelList = await carry_out(parts, ListModels())
    return listed


def model_body(view: ModelView, limits: Limits, offered_since: float) -> dict[str, Any]:
    """As ModelBody."""
    card = view.card
    return {
        "id": card.name,
        "object": "model",
        "created": int(offered_since),
        "owned_by": OWNED_BY,
        "name": card.name,
        "description": card.description,
        "model_type": card.model_type,
        "version": VERSION,
        "model_path": card.name,
        "input_schema": inputs_of(card, limits),
        "hardware": "auto",
        "created_at": time_text(offered_since),
        "updated_at": time_text(offered_since),
        "owner_id": OWNED_BY,
        "state": view.state.value,
        "problem": view.problem,
        "adapters": list(card.adapters),
        "solvers": list(card.solvers) if isinstance(card, ModelCard) else [],
    }


def inputs_of(card: Card, limits: Limits) -> dict[str, dict[str, Any]]:
    """What a prediction's `input` takes, in the words of the platform; the whole is in a version's schema."""
    described = input_properties(card, limits)
    return {
        name: {"description": "", **{word: value for word, value in found.items() if word in InputBody.model_fields}}
        for name, found in described.items()
    }
