"""What was answered before, and is given again: the same asked by the same owner, where a setting says so.

An answer is found by a hash over all that a picture or a text follows from: what the request says, its seed above all, the
model's files, the content of the adapters and the signature. Who names no seed gets one that was drawn, so that nothing like it
was asked before; to have a picture again its seed is named, which every answer tells.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import structlog

from ai.cards import Card
from ai.types import AdapterUse, CustomRequest, InitImage, Request
from server.clock import Clock
from server.errors import RecordsUnavailable
from server.interfaces import AnswerRecords, JobStore, Pool
from server.job import Job, JobState
from server.jobs.fingerprints import Fingerprints

log = structlog.get_logger("atelier.jobs")

_UNASKED = frozenset(
    {
        "request_id", "owner", "priority", "deadline_seconds", "preview_every", "cost",  # change nothing of what comes out
        "saved", "adapter_files", "adapters",  # the adapters count by their content
    }
)  # fmt: skip


class Answers:
    """Earlier answers of at most so many `seconds` ago. `salt` stands for all else that a picture may depend on: the settings
    of the engine, the server's version."""

    def __init__(
        self,
        *,
        records: AnswerRecords,
        store: JobStore,
        card: Callable[[str], Card | None],
        pool: Pool,
        clock: Clock,
        seconds: float,
        salt: str,
    ) -> None:
        self._records = records
        self._store = store
        self._card = card
        self._pool = pool
        self._clock = clock
        self._seconds = seconds
        self._salt = salt
        self._fingerprints = Fingerprints()

    async def key(self, job: Job, files: Mapping[str, str]) -> str:
        """What the job's answer is found by; `files` are those of its fetched adapters. "" where it may be another each time."""
        card = self._card(job.request.model)
        return "" if card is None else await self._pool.run(self._key, job, card, files)

    def _key(self, job: Job, card: Card, files: Mapping[str, str]) -> str:
        """On a thread: it reads the disk, and hashes pictures that came with the request."""
        made_with = self._fingerprints.of(job.request, card, files)
        if made_with is None:
            return ""
        whole = [self._salt, job.owner, type(job.request).__name__, asked(job.request), made_with, repr(job.signature)]
        return hashlib.sha256(json.dumps(whole, sort_keys=True).encode()).hexdigest()

    async def earlier(self, key: str, owner: str) -> Job | None:
        """The job that was answered before, while its record is kept."""
        try:
            job_id = await self._records.earlier(key, owner, since=self._clock.seconds() - self._seconds)
            job = None if job_id is None else await self._store.get(job_id)
        except RecordsUnavailable:
            return None
        return job if job is not None and job.owner == owner and job.state is JobState.SUCCEEDED else None

    async def keep(self, key: str, job: Job) -> None:
        """From now on `job` is the answer. One that cannot be kept is no loss."""
        try:
            await self._records.keep(key, job.owner, job.id, at=self._clock.seconds())
        except RecordsUnavailable as error:
            log.warning("answer.not_kept", job_id=job.id, reason=error.reason)


def asked(request: Request) -> dict[str, Any]:
    """What of a request its outcome follows from, but for its adapters, as JSON has it."""
    names = {entry.name for entry in fields(request)} - _UNASKED
    if isinstance(request, CustomRequest):  # a class is given the seed that stands in its input, or none
        names.discard("seed")
    return {name: _plain(getattr(request, name)) for name in names}


def _plain(value: Any) -> Any:
    if isinstance(value, InitImage):
        return [value.width, value.height, hashlib.sha256(value.rgb).hexdigest()]
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    assert not isinstance(value, AdapterUse)
    return value
