"""ListModels and GetModel: what this server can paint with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from server.catalogue.catalogue import Catalogue, nothing_new
from server.commands import GetModel, ListModels
from server.errors import Refusal
from server.health import Health
from server.live.events import Live
from server.model_names import names_of
from server.model_records import CheckState, ModelRecord, VersionRecord
from server.replies import FoundModel, ModelList, ModelState, ModelView, Unoffered, VersionView


class ListModelsHandler:
    """Every model with its state."""

    def __init__(self, health: Health, catalogue: Catalogue, live: Live) -> None:
        self._health = health
        self._catalogue = catalogue
        self._live = live

    def __call__(self, command: ListModels) -> ModelList:
        """Answers at once."""
        registered = [
            view_of(record, self._catalogue, self._health) for record in self._catalogue.records(command.owner)
        ]
        return ModelList(
            (*self._health.models(), *(one for one in registered if isinstance(one, ModelView))),
            tuple(one for one in registered if isinstance(one, Unoffered)),
            tuple(self._live.models()),
        )


class GetModelHandler:
    """The one that is meant. `hear_news` looks for what other nodes were given a moment ago, and says whether there is any."""

    def __init__(
        self, health: Health, catalogue: Catalogue, hear_news: Callable[[], Awaitable[bool]] = nothing_new
    ) -> None:
        self._health = health
        self._catalogue = catalogue
        self._hear_news = hear_news

    async def __call__(self, command: GetModel) -> FoundModel:
        """The caller's own by its plain name comes before the settings'. Raises Refusal (MODEL_NOT_FOUND)."""
        try:
            found = self._find(command)
            if isinstance(found.model, ModelView) or not await self._hear_news():
                return found
        except Refusal:
            if not await self._hear_news():
                raise
        return self._find(command)

    def _find(self, command: GetModel) -> FoundModel:
        try:
            record, version = self._catalogue.find(command.owner, command.model, command.field)
        except Refusal:
            for view in self._health.models():
                if command.model in names_of(view.card.name):
                    return FoundModel(view)
            raise
        found = view_of(record, self._catalogue, self._health)
        asked = None if version is None else next(one for one in found.versions if one.version is version)
        return FoundModel(found, asked)


def view_of(record: ModelRecord, catalogue: Catalogue, health: Health) -> ModelView | Unoffered:
    """A registered model as this node has it."""
    versions = tuple(_version(record, one, catalogue, health) for one in record.versions if not one.deleted)
    shown = [one for one in versions if one.card is not None]
    if not shown:
        return Unoffered(record, versions)
    main = max(shown, key=lambda one: (one.version.weight, one.version.created_at))
    assert main.card is not None
    return ModelView(main.card, main.state, main.problem, record, versions)


def _version(record: ModelRecord, version: VersionRecord, catalogue: Catalogue, health: Health) -> VersionView:
    offered = catalogue.offered(record, version)
    if offered is None:
        state = ModelState.UNAVAILABLE if version.state is CheckState.REFUSED else ModelState.LOADING
        return VersionView(version, None, state, version.problem)
    state, problem = health.state_of(offered.card.name)
    return VersionView(version, offered.card, state, problem or offered.problem)
