"""Registering, changing and removing models and adapters: handed to the catalogue's rooms."""

from __future__ import annotations

from server.catalogue.catalogue import Catalogue
from server.catalogue.registering import Registrar
from server.catalogue.uploading import Uploads
from server.catalogue_commands import (
    AddAdapter,
    ChangeModel,
    ListAdapters,
    RegisterModel,
    RemoveAdapter,
    RemoveModel,
    RollBack,
    ShareTraffic,
)
from server.handlers.list_models import view_of
from server.health import Health
from server.model_records import AdapterRecord, ModelRecord
from server.replies import AdapterList, FoundModel


class CatalogueHandlers:
    """Each method carries out one command, and raises Refusal."""

    def __init__(self, catalogue: Catalogue, registrar: Registrar, uploads: Uploads, health: Health) -> None:
        self._catalogue = catalogue
        self._registrar = registrar
        self._uploads = uploads
        self._health = health

    async def register(self, command: RegisterModel) -> FoundModel:
        """The model, its new version being looked at."""
        return self._found(await self._registrar.register(command))

    async def change(self, command: ChangeModel) -> FoundModel:
        """As it is now."""
        return self._found(await self._registrar.change(command))

    async def share(self, command: ShareTraffic) -> FoundModel:
        """As it is now."""
        return self._found(await self._registrar.share(command))

    async def roll_back(self, command: RollBack) -> FoundModel:
        """As it is now."""
        return self._found(await self._registrar.roll_back(command))

    async def remove(self, command: RemoveModel) -> FoundModel:
        """As it was left."""
        return self._found(await self._registrar.remove(command))

    async def add_adapter(self, command: AddAdapter) -> AdapterRecord:
        """The adapter, which can be worn from now on."""
        return await self._uploads.add(command)

    def list_adapters(self, command: ListAdapters) -> AdapterList:
        """Those that the caller may use."""
        return AdapterList(tuple(self._catalogue.adapters(command.owner)))

    async def remove_adapter(self, command: RemoveAdapter) -> AdapterRecord:
        """As it was."""
        return await self._uploads.remove(command)

    def _found(self, record: ModelRecord) -> FoundModel:
        return FoundModel(view_of(record, self._catalogue, self._health))
