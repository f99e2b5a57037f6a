"""Addresses of pictures are made when they are told, not recorded: a signed one ends, and a public one may move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from server.errors import JobFailure
from server.events import Artifact
from server.interfaces import ArtifactStore, JobStore
from server.job import Job, JobState
from server.listing import JobPage
from server.object_keys import picture_path
from server.webhook import OutboxCall

log = structlog.get_logger("atelier.storage")


class AddressedJobs:
    """A `JobStore` whose jobs have their pictures' present addresses, over one that knows keys only.

    `door` is what others call the HTTP door, which has every picture; "" where that is not known.
    """

    def __init__(self, store: JobStore, artifacts: ArtifactStore, door: str = "") -> None:
        self._store = store
        self._artifacts = artifacts
        self._door = door.rstrip("/")

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

    async def move(
        self,
        job_id: str,
        state: JobState,
        *,
        fence: int,
        at: float,
        last_event: int,
        artifacts: tuple[Artifact, ...] = (),
        warnings: tuple[str, ...] = (),
        failure: JobFailure | None = None,
        calls: Sequence[OutboxCall] = (),
    ) -> Job:
        """As the store's; the addresses are left out of the record."""
        moved = await self._store.move(
            job_id,
            state,
            fence=fence,
            at=at,
            last_event=last_event,
            artifacts=tuple(replace(artifact, url="") for artifact in artifacts),
            warnings=warnings,
            failure=failure,
            calls=calls,
        )
        return await self._addressed(moved)

    async def _addressed(self, job: Job) -> Job:
        if not job.artifacts:
            return job
        return replace(job, artifacts=tuple([await self._told(job.id, artifact) for artifact in job.artifacts]))

    async def _told(self, job_id: str, artifact: Artifact) -> Artifact:
        try:
            url = await self._artifacts.address(artifact.key)
        except OSError as error:  # the picture is there all the same
            log.warning("picture.no_address", key=artifact.key, reason=error.strerror or str(error))
            url = ""
        if not url and self._door:
            url = f"{self._door}{picture_path(job_id, artifact.image_index)}"
        return replace(artifact, url=url)
