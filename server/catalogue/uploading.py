"""Taking adapters from users: a file is checked against the model that it is for, then stored where every node finds it, then
recorded; from then on whoever may use it wears it by its name.

A file is stored under its content's hash, so that what a job under way wears never changes under it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import structlog

from ai.adapters.folder import NAME
from ai.cards import ModelCard
from ai.types import AdapterError
from server.adapter_names import upload_key
from server.catalogue.catalogue import Catalogue
from server.catalogue.store import CatalogueStore
from server.catalogue_commands import AddAdapter, RemoveAdapter
from server.clock import Clock
from server.errors import Code, Refusal
from server.interfaces import FileStore, Pool
from server.model_names import NAME as OWNER_NAME
from server.model_names import shown
from server.model_records import AdapterRecord
from watermark import ImageMark, Signature, SignatureError
from watermark.signing import decoded

log = structlog.get_logger("atelier.adapters")

MAX_TEXT = 2000  # characters of a description; licence and artist have a tenth
_OWNER = re.compile(OWNER_NAME)


class Fitted(Protocol):
    """What was found of an adapter (ai.adapters.fitting)."""

    @property
    def rank(self) -> int:
        """The largest of its layers."""
        ...

    @property
    def content_id(self) -> str:
        """A hash of its matrices."""
        ...


Fit = Callable[[Path, ModelCard], Fitted]
"""Checks a file against a model; called on a thread, raises AdapterError."""


class Uploads:
    """`most` adapters of one owner; `refresh` hears of what was recorded."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        store: CatalogueStore,
        storage: FileStore,
        fit: Fit,
        refresh: Callable[[], Awaitable[bool]],
        pool: Pool,
        clock: Clock,
        most: int,
        new_id: Callable[[], str],
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._storage = storage
        self._fit = fit
        self._refresh = refresh
        self._pool = pool
        self._clock = clock
        self._most = most
        self._new_id = new_id

    async def add(self, command: AddAdapter) -> AdapterRecord:
        """The adapter, which can be worn from now on. Raises Refusal, which names the field."""
        _check_words(command)
        await self._refresh()
        existing = self._catalogue.adapter(command.owner, f"{command.owner}/{command.name}")
        if existing is not None:
            raise Refusal.invalid("name", "a name that none of your adapters has", command.name)
        base = self._catalogue.choose(command.owner, command.base, command.owner, "base_model").card
        if not isinstance(base, ModelCard):
            raise Refusal.invalid("base_model", "a model that paints", command.base)
        await self._check_signature(command.signature)
        try:
            fitted = await self._pool.run(self._fit, command.path, base)
        except AdapterError as error:
            text = str(error).replace(f"{command.path.name}: ", "").replace(command.path.name, "the file")
            limit = f"a LoRA in .safetensors that fits {shown(base.name)}"
            raise Refusal(Code.ADAPTER_INVALID, f"file: {text}", field="file", limit=limit) from None
        record = self._record(command, base, fitted)
        try:
            await self._storage.put_file(upload_key(record.owner, record.name, record.sha256), command.path)
        except OSError as error:
            text = f"it cannot be stored now: {error.strerror or error}"
            raise Refusal(Code.UNAVAILABLE, text, retry_after_seconds=5.0) from None
        await self._store.add(record, most=self._most)
        await self._refresh()
        log.info("adapter.uploaded", adapter=record.full_name, size=record.size_bytes)
        return record

    async def remove(self, command: RemoveAdapter) -> AdapterRecord:
        """As it was. Its file stays until the last job that wears it has ended. Raises Refusal."""
        record = self._found(command)
        if record is None and await self._refresh():
            record = self._found(command)
        if record is None or not record.may_use(command.owner):
            text = f"there is no adapter {command.adapter[:60]!r}"
            raise Refusal(Code.ADAPTER_NOT_FOUND, text, field="adapter", limit="the name or id of an adapter")
        if record.owner != command.owner:
            raise Refusal(Code.PERMISSION_DENIED, f"{record.full_name} is not yours to delete", field="adapter")
        at = self._clock.seconds()
        removed: AdapterRecord = await self._store.change(
            record.id, lambda there: replace(there, deleted=True, updated_at=at)
        )
        await self._refresh()
        return removed

    async def drop_file(self, record: AdapterRecord) -> None:
        """Delete what was stored of a forgotten adapter. Raises OSError."""
        await self._storage.delete(upload_key(record.owner, record.name, record.sha256))

    def _found(self, command: RemoveAdapter) -> AdapterRecord | None:
        by_id = self._catalogue.adapter_by_id(command.adapter)
        return by_id or self._catalogue.adapter(command.owner, command.adapter)

    async def _check_signature(self, signature: Signature | None) -> None:
        """Decode its picture once now, rather than find after a painting that it cannot be."""
        if signature is None or not isinstance(signature.mark, ImageMark):
            return
        try:
            await self._pool.run(decoded, signature.mark)
        except SignatureError as error:
            raise Refusal(
                Code.INVALID_PARAMETER, f"signature: {error.message}", field="signature", limit=error.limit
            ) from None

    def _record(self, command: AddAdapter, base: ModelCard, fitted: Fitted) -> AdapterRecord:
        at = self._clock.seconds()
        return AdapterRecord(
            id=self._new_id(),
            owner=command.owner,
            name=command.name,
            description=command.description,
            base=shown(base.name),
            family=base.family,
            visibility=command.visibility,
            licence=command.licence,
            artist=command.artist,
            signature=command.signature,
            size_bytes=command.size_bytes,
            rank=fitted.rank,
            sha256=command.sha256,
            content_id=fitted.content_id,
            created_at=at,
            updated_at=at,
        )


def _check_words(command: AddAdapter) -> None:
    """Raise Refusal for words that are none."""
    if not NAME.fullmatch(command.name):
        raise Refusal.invalid("name", "1 to 64 letters, digits, dots, _ and -, the first no dot", command.name)
    if not _OWNER.fullmatch(command.owner):
        raise Refusal(
            Code.PERMISSION_DENIED, "whoever uploads adapters needs a name of letters and digits", field="owner"
        )
    for field, text, most in (
        ("description", command.description, MAX_TEXT),
        ("licence", command.licence, MAX_TEXT // 10),
        ("artist", command.artist, MAX_TEXT // 10),
    ):
        if len(text) > most or any(ord(character) < 32 and character not in "\n\t" for character in text):
            raise Refusal.invalid(field, f"at most {most} characters, without controls", text)
