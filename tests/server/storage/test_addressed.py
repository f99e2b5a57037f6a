"""Addresses that are made when they are told."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from server.job import JobState
from server.storage.addressed import AddressedJobs
from tests.server.database.contract import ARTIFACT, a_job
from tests.server.memory import MemoryJobStore
from tests.server.moving import move_job


class Signing:
    """A storage whose every address is another; it can fail."""

    def __init__(self) -> None:
        self.count = itertools.count(1)
        self.error: OSError | None = None

    async def address(self, key: str) -> str:
        """The next."""
        if self.error is not None:
            raise self.error
        return f"https://pictures.test/{key}?{next(self.count)}"

    async def put(self, key: str, data: bytes, content_type: str, sha256: str) -> None:
        """Nobody stores here."""
        raise AssertionError

    async def read(self, key: str, offset: int, size: int) -> bytes:
        """Nobody reads here."""
        raise AssertionError

    async def delete(self, key: str) -> None:
        """Nobody deletes here."""
        raise AssertionError


@pytest.fixture
def inner() -> MemoryJobStore:
    """The records."""
    return MemoryJobStore(10)


@pytest.fixture
def signing() -> Signing:
    """The storage."""
    return Signing()


async def ended(store: AddressedJobs) -> list[str]:
    """The addresses that were told of a job when it ended."""
    job = a_job("job-1", idempotency_key="k")
    assert await store.admit(job) == job
    for state in (JobState.STARTING, JobState.PROCESSING):
        await move_job(store, "job-1", state, fence=1, at=1.0, last_event=1)
    made = (replace(ARTIFACT, url="https://pictures.test/old"),)
    moved = await move_job(store, "job-1", JobState.SUCCEEDED, fence=1, at=2.0, last_event=2, artifacts=made)
    return [artifact.url for artifact in moved.artifacts]


async def test_every_telling_has_an_address_of_its_own(inner: MemoryJobStore, signing: Signing) -> None:
    """At the end of the job, and each time that somebody asks again."""
    store = AddressedJobs(inner, signing)
    assert await ended(store) == [f"https://pictures.test/{ARTIFACT.key}?1"]
    again = await store.get("job-1")
    assert again is not None
    assert [artifact.url for artifact in again.artifacts] == [f"https://pictures.test/{ARTIFACT.key}?2"]
    found = await store.find("ada", "k")
    assert found is not None
    assert found.artifacts[0].url.endswith("?3")
    assert (await store.admit(a_job("job-2", idempotency_key="k"))).artifacts[0].url.endswith("?4")


async def test_no_address_is_recorded(inner: MemoryJobStore, signing: Signing) -> None:
    """It would end, and be a key to the picture until then."""
    await ended(AddressedJobs(inner, signing))
    recorded = await inner.get("job-1")
    assert recorded is not None
    assert [artifact.url for artifact in recorded.artifacts] == [""]


async def test_a_job_without_pictures_asks_for_no_address(inner: MemoryJobStore, signing: Signing) -> None:
    """Nor does one that is not there."""
    store = AddressedJobs(inner, signing)
    signing.error = OSError("nobody should ask")
    await store.admit(a_job("job-1"))
    assert await store.get("job-1") == a_job("job-1")
    assert await store.get("job-2") is None
    assert await store.find("ada", "nobody's") is None


async def test_a_storage_that_gives_no_address_hides_no_job(inner: MemoryJobStore, signing: Signing) -> None:
    """The picture can still be fetched through the server."""
    signing.error = OSError("no credentials")
    assert await ended(AddressedJobs(inner, signing)) == [""]
