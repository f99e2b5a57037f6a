"""What the catalogue asks of the records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from server.model_records import AdapterRecord, ModelRecord

Record = ModelRecord | AdapterRecord
R = TypeVar("R", ModelRecord, AdapterRecord)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is otherwise than at an earlier revision, those that were deleted too."""

    revision: int
    records: Sequence[Record]


class CatalogueStore(Protocol):
    """Records of models and adapters, the same for all nodes. Everything here raises RecordsUnavailable."""

    async def changes(self, since: int) -> Changes:
        """Everything since that revision; nothing has revision 0."""
        ...

    async def add(self, record: Record, *, most: int) -> None:
        """A new one. Raises Refusal where its owner has one of that name, or has `most` of its kind."""
        ...

    async def change(self, record_id: str, edit: Callable[[R], R]) -> R:
        """Put what `edit` makes of it in its place, whoever else changes it meanwhile; a deleted one is not found.

        `edit` is called on another thread, perhaps more than once. Raises Refusal (MODEL_NOT_FOUND), and what `edit` raises.
        """
        ...

    async def in_use(self, name: str) -> bool:
        """Whether a job that has not ended names this, as a model or an adapter, exactly."""
        ...

    async def deleted(self, *, before: float) -> Sequence[Record]:
        """What was deleted before then."""
        ...

    async def forget(self, record_ids: Sequence[str]) -> None:
        """Deleted records; others are left alone."""
        ...
