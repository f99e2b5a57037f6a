"""The storage as it is timed, and the adapters' cache."""

from __future__ import annotations

import errno
import hashlib

import pytest

from server.metrics.storage import MeasuredArtifacts
from tests.server.fakes import FakeArtifacts
from tests.server.metrics.scrape import now, some_metrics

PNG = b"\x89PNG and more"


class Ticking:
    """A clock that is half a second later each time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """The time."""
        self.now += 0.5
        return self.now


async def test_operations_are_timed_and_their_bytes_counted() -> None:
    """What is put and read; an address is asked of the store."""
    metrics, inner = some_metrics(), FakeArtifacts()
    store = MeasuredArtifacts(inner, metrics, Ticking())
    await store.put("jobs/a/0.png", PNG, "image/png", hashlib.sha256(PNG).hexdigest())
    assert await store.read("jobs/a/0.png", 0, 4) == PNG[:4]
    assert await store.address("jobs/a/0.png") == "https://pictures.test/jobs/a/0.png"
    await store.delete("jobs/a/0.png")
    found = now(metrics)
    assert (
        found['atelier_storage_bytes_total{operation="put"}'],
        found['atelier_storage_bytes_total{operation="read"}'],
    ) == (13, 4)
    assert [found[f'atelier_storage_seconds_sum{{operation="{one}"}}'] for one in ("put", "read", "delete")] == [
        0.5
    ] * 3
    assert [
        found[f'atelier_storage_operations_total{{operation="{one}",outcome="ok"}}'] for one in ("put", "delete")
    ] == [1, 1]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (OSError(errno.ENOSPC, "no space"), "full"),
        (OSError(errno.EACCES, "no"), "denied"),
        (FileNotFoundError("gone"), "missing"),
        (TimeoutError("late"), "timeout"),
        (OSError("the storage refused access (403 SECRET)"), "error"),
    ],
)
async def test_what_fails_is_told_by_its_kind_and_raised(error: OSError, outcome: str) -> None:
    """No bytes are counted for it; its words are no label."""
    metrics, inner = some_metrics(), FakeArtifacts()
    inner.put_error = error
    with pytest.raises(type(error)) as raised:
        await MeasuredArtifacts(inner, metrics).put("jobs/a/0.png", PNG, "image/png", hashlib.sha256(PNG).hexdigest())
    found = now(metrics)
    assert raised.value is error
    assert found[f'atelier_storage_operations_total{{operation="put",outcome="{outcome}"}}'] == 1
    assert found['atelier_storage_bytes_total{operation="put"}'] == 0
