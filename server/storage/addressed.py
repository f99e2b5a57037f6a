"""Addresses of pictures are made when they are told, not recorded: a signed one ends, and a public one may move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from server.events import Artifact
from server.interfaces import ArtifactStore, JobStore
from server.job import Job
from server.listing import JobPage
from server.object_keys import picture_path
from server.picture_access import PictureAccess
from server.webhook import OutboxCall

log = structlog.get_logger("atelier.storage")


class AddressedJobs:
    """A `JobStore` whose jobs have their pictures' present addresses, over one that knows keys only.

    `door` is what others call the HTTP door, which has every picture; "" where that is not known. `access` signs its addresses.
    """

    def __init__(
        self, store: JobStore, artifacts: ArtifactStore, door: str = "", access: PictureAccess | None = None
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._door = door.rstrip("/")
        self._access = access

    async def admit(self, job: Job, calls: Sequence[OutboxCall] = (), *, leased: bool = True) -> Job:
        """As the store's."""
        return await self._addressed(await self._store.admit(job, calls, leased=leased))

    async def find(self, owner: str, idempotency_key: str) -> Job | None:
        """As the store's."""
        found = await self._store.find(owner, idempotency_key)
        return None if found is None else await self._addressed(found)

    async def get(self, job_id: str) -> Job | None:
        """As the store's."""
        found = await self._store.get(job_id)
        return None if found is None else await self._addressed(found)

    async def page(self, owner: str, page: JobPage) -> tuple[list[Job], bool]:
        """As the store's."""
        found, more = await self._store.page(owner, page)
        return [await self._addressed(job) for job in found], more

    async def move(self, job: Job, calls: Sequence[OutboxCall] = ()) -> Job:
        """As the store's; the addresses are left out of the record."""
        if not job.artifacts:
            return await self._store.move(job, calls)
        if any(artifact.url or artifact.access for artifact in job.artifacts):
            job = replace(job, artifacts=tuple(replace(artifact, url="", access="") for artifact in job.artifacts))
        return await self._addressed(await self._store.move(job, calls))

    async def _addressed(self, job: Job) -> Job:
        if not job.artifacts:
            return job
        told = tuple([await self._told(job, artifact) for artifact in job.artifacts])
        return job if told == job.artifacts else replace(job, artifacts=told)

    async def _told(self, job: Job, artifact: Artifact) -> Artifact:
        try:
            url = await self._artifacts.address(artifact.key)
        except OSError as error:  # the picture is there all the same
            log.warning("picture.no_address", key=artifact.key, reason=error.strerror or str(error))
            url = ""
        access = "" if self._access is None else self._access.query(job.id, job.owner)
        if not url and self._door:
            url = f"{self._door}{picture_path(job.id, artifact.image_index)}{access}"
        known = url == artifact.url and access == artifact.access
        return artifact if known else replace(artifact, url=url, access=access)
