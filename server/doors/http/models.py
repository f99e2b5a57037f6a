"""What can be painted with, in one body for three kinds of client; and models that users register.

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
from server.catalogue_commands import ChangeModel, RegisterModel, RemoveModel, RollBack, ShareTraffic
from server.commands import Command, GetModel, ListModels
from server.doors.http.errors import documented, time_text
from server.doors.http.identity import Owner, Registrar
from server.doors.http.parts import HttpParts, carry_out
from server.doors.http.pictures import base_url
from server.doors.http.predictions.models import input_properties, main_version
from server.doors.http.predictions.models import model_body as predicting_model
from server.doors.http.schemas import StrictRequest
from server.jobs.admission import Limits
from server.json_schema import Schema
from server.model_names import FIRST_VERSION, version_of
from server.model_records import CheckState, Visibility
from server.replies import FoundModel, ModelList, ModelState, ModelView, Unoffered, VersionView

MOST = 1000  # models in one answer; a node has a few
OWNED_BY = "atelier"  # models of the settings
MAX_PATH = 1000

Skip = Annotated[int, Query(ge=0, le=1_000_000, description="Leave out so many of the first.")]
Limit = Annotated[int, Query(ge=1, le=MOST, description="At most so many.")]
ModelName = Annotated[
    str, Path(min_length=1, max_length=100, description="As GET /v1/models has it.", examples=["demo"])
]
Word = Annotated[str, Path(max_length=200)]
MODEL_STATES: dict[str, Any] = {"enum": [*ModelState, CheckState.CHECKING, CheckState.REFUSED]}


class InputBody(BaseModel):
    """One input of a model."""

    type: str | list[str] | None = None
    description: str
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    enum: list[Any] | None = None


class VersionBody(BaseModel):
    """One version of a registered model."""

    version: str
    id: str = Field(description="64 hex digits, as Replicate's clients say it.")
    state: str = Field(json_schema_extra=MODEL_STATES)
    problem: str
    weight: int = Field(description="Its share of the requests that name no version.")
    content_id: str = Field(description="SHA-256 over its files.")
    size_bytes: int
    hardware: str
    created_at: str


class ModelBody(BaseModel):
    """A model. Of one in the settings, `created` and the other times are when this server began to offer it."""

    id: str
    object: Literal["model"]
    created: int = Field(description="Seconds since 1970.")
    owned_by: str
    name: str
    full_name: str
    description: str
    model_type: str
    version: str
    model_path: str = Field(description="As its owner gave it; for others its name.")
    input_schema: dict[str, InputBody]
    hardware: str
    created_at: str
    updated_at: str
    owner_id: str
    visibility: str
    state: str = Field(json_schema_extra=MODEL_STATES)
    problem: str = Field(description="Why it is unavailable, or was refused.")
    versions: list[VersionBody]
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


class NewModelRequest(StrictRequest):
    """A model, or a new version of one of yours."""

    name: str = Field(min_length=1, max_length=64, examples=["fox"])
    description: str | None = Field(None, max_length=2000)
    model_type: str = Field("text-to-image", max_length=40)
    version: str = Field(FIRST_VERSION, min_length=1, max_length=64)
    model_path: str = Field(min_length=1, max_length=MAX_PATH, description="A folder or file that this server allows.")
    input_schema: dict[str, Any] = Field(default_factory=dict, description="{param: {type, description, default, …}}")
    hardware: str = Field("auto", max_length=10, description="cpu, gpu or auto.")
    visibility: Literal["private", "public"] | None = Field(None, description="private is what a new one is.")


class ModelChangeRequest(StrictRequest):
    """What is left out stays."""

    description: str | None = Field(None, max_length=2000)
    visibility: Literal["private", "public"] | None = None


class TrafficRequest(StrictRequest):
    """Version → share."""

    weights: dict[str, int] = Field(min_length=1, max_length=100, examples=[{"1.0.0": 90, "1.1.0": 10}])


class PromoteRequest(StrictRequest):
    """One version."""

    version: str = Field(min_length=1, max_length=64)


class Models:
    """What the routes have in common."""

    def __init__(self, parts: HttpParts) -> None:
        self._parts = parts
        self._since = parts.clock.seconds()

    async def listed(self, request: Request, owner: str, skip: int, limit: int) -> Response:
        """A page."""
        limits, address = self._parts.request_limits, base_url(self._parts, request)
        listed: ModelList = await carry_out(self._parts, ListModels(owner))
        every: tuple[ModelView | Unoffered, ...] = (*listed.models, *listed.unoffered)
        page = every[skip : skip + limit]
        found = [self.body(view, owner) for view in page]
        offered = [view for view in page if isinstance(view, ModelView)]
        results = [predicting_model(view, limits, address, self._since) for view in offered]
        around = {"next": None, "previous": None, "results": results}
        return JSONResponse({"object": "list", "data": found, "models": found, **around})

    async def told(self, owner: str, name: str) -> Response:
        """One."""
        found: FoundModel = await carry_out(self._parts, GetModel(owner=owner, model=name))
        return JSONResponse(self.body(found.model, owner))

    async def carried_out(self, owner: str, command: Command, status: int = 200) -> Response:
        """A change of one, and how it is now. Raises Refusal."""
        found: FoundModel = await carry_out(self._parts, command)
        return JSONResponse(self.body(found.model, owner), status)

    def body(self, view: ModelView | Unoffered, owner: str) -> dict[str, Any]:
        """As ModelBody."""
        return model_body(view, self._parts.request_limits, self._since, owner)


def routes(parts: HttpParts) -> APIRouter:
    """/v1/models. /v1/models/{owner}/{name} is another module's to get."""
    router = APIRouter(prefix="/v1/models", tags=["models"])
    here = Models(parts)

    @router.get("", response_model=ModelsBody, operation_id="list_models")
    async def list_models(request: Request, owner: Owner, skip: Skip = 0, limit: Limit = MOST) -> Response:
        """Every model that you may use, the default first; then those of yours that are not to be used yet."""
        return await here.listed(request, owner, skip, limit)

    @router.get("/{model_id}", response_model=ModelBody, responses=documented(404), operation_id="get_model")
    async def get_model(owner: Owner, model_id: ModelName) -> Response:
        """One model: by its id, or its name."""
        return await here.told(owner, model_id)

    _add_sharing(router, here)  # before a model that could be called `promote`
    _add_registering(router, here)
    return router


def _add_registering(router: APIRouter, here: Models) -> None:
    @router.post(
        "", status_code=201, response_model=ModelBody, responses=documented(404, 429), operation_id="register_model"
    )
    async def register_model(asked: NewModelRequest, asker: Registrar) -> Response:
        """Register a model, or one more version of yours. It is `checking` until its files were looked at."""
        command = RegisterModel(
            owner=asker.owner,
            name=asked.name,
            path=asked.model_path,
            model_type=asked.model_type,
            version=asked.version,
            description=asked.description,
            input_schema=asked.input_schema,
            hardware=asked.hardware,
            visibility=_visibility(asked.visibility),
        )
        return await here.carried_out(asker.owner, command, 201)

    @router.patch("/{model_id}", response_model=ModelBody, responses=documented(404), operation_id="change_model")
    async def change_model(model_id: ModelName, asked: ModelChangeRequest, asker: Registrar) -> Response:
        """Its description, or who may use it."""
        seen = _visibility(asked.visibility)
        command = ChangeModel(owner=asker.owner, model=model_id, description=asked.description, visibility=seen)
        return await here.carried_out(asker.owner, command)

    @router.delete("/{model_id}", status_code=204, responses=documented(404), operation_id="delete_model")
    async def delete_model(model_id: ModelName, asker: Registrar) -> Response:
        """Offer it no more; what was accepted is finished."""
        await here.carried_out(asker.owner, RemoveModel(owner=asker.owner, model=model_id))
        return Response(status_code=204)

    @router.delete(
        "/{model_owner}/{name}", status_code=204, responses=documented(404), operation_id="delete_model_of_owner"
    )
    async def delete_of_owner(model_owner: Word, name: Word, asker: Registrar) -> Response:
        """The same, as Replicate's clients say it."""
        await here.carried_out(asker.owner, RemoveModel(owner=asker.owner, model=f"{model_owner}/{name}"))
        return Response(status_code=204)

    @router.delete(
        "/{model_id}/versions/{version}",
        status_code=204,
        responses=documented(404),
        operation_id="delete_version",
    )
    async def delete_version(model_id: ModelName, version: Word, asker: Registrar) -> Response:
        """Offer a version no more that gets no requests."""
        await here.carried_out(asker.owner, RemoveModel(owner=asker.owner, model=model_id, version=version))
        return Response(status_code=204)


def _add_sharing(router: APIRouter, here: Models) -> None:
    @router.put(
        "/{model_id}/traffic", response_model=ModelBody, responses=documented(404), operation_id="share_traffic"
    )
    async def share_traffic(model_id: ModelName, asked: TrafficRequest, asker: Registrar) -> Response:
        """Which versions get which share of the requests that name none."""
        return await here.carried_out(
            asker.owner, ShareTraffic(owner=asker.owner, model=model_id, weights=asked.weights)
        )

    @router.post(
        "/{model_id}/promote", response_model=ModelBody, responses=documented(404), operation_id="promote_version"
    )
    async def promote_version(model_id: ModelName, asked: PromoteRequest, asker: Registrar) -> Response:
        """Have one version get all of them."""
        return await here.carried_out(
            asker.owner, ShareTraffic(owner=asker.owner, model=model_id, weights={asked.version: 1})
        )

    @router.post("/{model_id}/rollback", response_model=ModelBody, responses=documented(404), operation_id="roll_back")
    async def roll_back(model_id: ModelName, asker: Registrar) -> Response:
        """The shares as they were before they were last changed."""
        return await here.carried_out(asker.owner, RollBack(owner=asker.owner, model=model_id))


def _visibility(word: str | None) -> Visibility | None:
    return None if word is None else Visibility(word)


def model_body(view: ModelView | Unoffered, limits: Limits, offered_since: float, owner: str) -> dict[str, Any]:
    """As ModelBody."""
    card = view.card
    told = (
        _settings_model(view.card.name, offered_since)
        if view.record is None and view.card
        else _registered(view, owner)
    )
    schema = main_version(view, offered_since).schema if isinstance(view, ModelView) else {}
    return {
        **told,
        "object": "model",
        "model_type": card.model_type if card is not None and view.record is None else told["model_type"],
        "input_schema": inputs_of(card, limits, schema) if card is not None else {},
        "adapters": [] if card is None else list(card.adapters),
        "solvers": list(card.solvers) if isinstance(card, ModelCard) else [],
        **({"state": view.state.value, "problem": view.problem} if isinstance(view, ModelView) else _state_of(view)),
        "description": card.description if card is not None and view.record is None else told["description"],
    }


def _settings_model(name: str, since: float) -> dict[str, Any]:
    """What is said of a model that the operator named."""
    return {
        "id": name,
        "created": int(since),
        "owned_by": OWNED_BY,
        "name": name,
        "full_name": name,
        "model_type": "",
        "description": "",
        "version": FIRST_VERSION,
        "model_path": name,
        "hardware": "auto",
        "created_at": time_text(since),
        "updated_at": time_text(since),
        "owner_id": OWNED_BY,
        "visibility": Visibility.PUBLIC.value,
        "versions": [],
    }


def _registered(view: ModelView | Unoffered, owner: str) -> dict[str, Any]:
    record = view.record
    assert record is not None, "one without a record has a card of the settings"
    current = record.current
    return {
        "id": record.id,
        "created": int(record.created_at),
        "owned_by": record.owner,
        "name": record.name,
        "full_name": record.full_name,
        "model_type": record.model_type,
        "description": record.description,
        "version": current.version if current else "",
        "model_path": current.path if current and owner == record.owner else record.full_name,
        "hardware": current.hardware if current else "auto",
        "created_at": time_text(record.created_at),
        "updated_at": time_text(record.updated_at),
        "owner_id": record.owner,
        "visibility": record.visibility.value,
        "versions": [_version(one, record.card_name(one.version.version)) for one in view.versions],
    }


def _version(view: VersionView, card_name: str) -> dict[str, Any]:
    version = view.version
    state = version.state.value if view.card is None and version.state is not CheckState.READY else view.state.value
    return {
        "version": version.version,
        "id": version_of(card_name),
        "state": state,
        "problem": view.problem,
        "weight": version.weight,
        "content_id": version.content_id,
        "size_bytes": version.size_bytes,
        "hardware": version.hardware,
        "created_at": time_text(version.created_at),
    }


def _state_of(view: Unoffered) -> dict[str, str]:
    """Of a model without a version that can be used: how the newest is."""
    newest = view.versions[-1] if view.versions else None
    if newest is None:
        return {"state": ModelState.UNAVAILABLE.value, "problem": "it has no version"}
    if newest.version.state is CheckState.READY:  # and on its way to this node
        return {"state": ModelState.LOADING.value, "problem": ""}
    return {"state": newest.version.state.value, "problem": newest.version.problem}


def inputs_of(card: Card, limits: Limits, schema: Schema) -> dict[str, dict[str, Any]]:
    """What a prediction's `input` takes, in the words of the platform; the whole is in a version's schema."""
    described = input_properties(card, limits, schema)
    return {
        name: {"description": "", **{word: value for word, value in found.items() if word in InputBody.model_fields}}
        for name, found in described.items()
    }
