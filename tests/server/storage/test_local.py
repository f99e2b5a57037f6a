"""Pictures in a folder of this machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.pools import InlinePool
from server.storage import local
from server.storage.local import LocalArtifacts
from tests.server.fakes import HoldingPool

KEY = "jobs/job-1/0.png"


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    """One over a folder that is not there yet."""
    return LocalArtifacts(tmp_path / "data" / "artifacts", InlinePool())


async def test_what_was_put_is_read_in_pieces(store: LocalArtifacts) -> None:
    """From any offset, at most as much as asked for, nothing past the end."""
    assert await store.put(KEY, b"0123456789", "image/png") == ""
    assert [await store.read(KEY, at, 4) for at in (0, 4, 8, 10, 99)] == [b"0123", b"4567", b"89", b"", b""]


async def test_a_key_is_a_path_below_the_folder(store: LocalArtifacts, tmp_path: Path) -> None:
    """Whatever serves the folder finds the file there, and may read it as another user."""
    await store.put(KEY, b"png", "image/png")
    path = tmp_path / "data" / "artifacts" / "jobs" / "job-1" / "0.png"
    assert path.read_bytes() == b"png"
    assert path.stat().st_mode & 0o444 == 0o444


async def test_putting_again_replaces(store: LocalArtifacts, tmp_path: Path) -> None:
    """And leaves nothing else in the folder."""
    await store.put(KEY, b"a long first one", "image/png")
    await store.put(KEY, b"second", "image/png")
    assert await store.read(KEY, 0, 100) == b"second"
    assert [path.name for path in (tmp_path / "data/artifacts/jobs/job-1").iterdir()] == ["0.png"]


async def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(
    store: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in mid-write: whole or not at all."""
    await store.put(KEY, b"first", "image/png")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(local.os, "fsync", full)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space"):
        await store.put(KEY, b"second", "image/png")
    assert await store.read(KEY, 0, 100) == b"first"
    assert os.listdir(tmp_path / "data/artifacts/jobs/job-1") == ["0.png"]


@pytest.mark.parametrize(
    "key", ["../x.png", "jobs/../../x.png", "/etc/passwd", "jobs//0.png", "", ".", "jobs/.", "jobs/\0.png", "jobs/"]
)
async def test_no_key_leads_out_of_the_folder(store: LocalArtifacts, tmp_path: Path, key: str) -> None:
    """Neither for writing nor for reading."""
    (tmp_path / "data").mkdir()
    (tmp_path / "x.png").write_bytes(b"not ours")
    with pytest.raises(ValueError, match="not a storage key"):
        await store.put(key, b"png", "image/png")
    with pytest.raises(ValueError, match="not a storage key"):
        await store.read(key, 0, 10)
    assert (tmp_path / "x.png").read_bytes() == b"not ours"


async def test_a_missing_file_is_an_os_error(store: LocalArtifacts) -> None:
    """As is a folder that cannot be made."""
    with pytest.raises(FileNotFoundError):
        await store.read(KEY, 0, 10)


async def test_a_folder_in_the_way_is_an_os_error(store: LocalArtifacts, tmp_path: Path) -> None:
    """What the storage raises is what its interface says."""
    (tmp_path / "data").write_bytes(b"a file where the folder should be")
    with pytest.raises(OSError, match="data"):
        await store.put(KEY, b"png", "image/png")


async def test_addresses_are_told_where_something_serves_the_folder(tmp_path: Path) -> None:
    """With or without a slash at the base's end; a key is quoted."""
    for base in ("https://pictures.test/files", "https://pictures.test/files/"):
        store = LocalArtifacts(tmp_path, InlinePool(), base)
        assert await store.put("jobs/a b/0.png", b"png", "image/png") == "https://pictures.test/files/jobs/a%20b/0.png"


async def test_the_disk_is_touched_by_the_pool_alone(tmp_path: Path) -> None:
    """Both ways."""
    pool = HoldingPool()
    pool.gate.set()
    store = LocalArtifacts(tmp_path, pool)
    await store.put(KEY, b"png", "image/png")
    await store.read(KEY, 0, 3)
    assert pool.asked == 2


async def test_a_deleted_picture_leaves_nothing_behind(store: LocalArtifacts, tmp_path: Path) -> None:
    """Neither file nor folder; its neighbour stays, and deleting what is not there is no error."""
    root = tmp_path / "data" / "artifacts"
    await store.put(KEY, b"png", "image/png")
    await store.put("jobs/job-1/1.png", b"png", "image/png")
    await store.delete(KEY)
    await store.delete(KEY)
    assert sorted(path.name for path in (root / "jobs" / "job-1").iterdir()) == ["1.png"]
    await store.delete("jobs/job-1/1.png")
    await store.delete("jobs/job-2/0.png")
    assert list((root / "jobs").iterdir()) == []


async def test_a_key_that_leaves_the_folder_deletes_nothing(store: LocalArtifacts, tmp_path: Path) -> None:
    """A mistake of ours must not become the operator's loss."""
    (tmp_path / "data" / "kept").parent.mkdir()
    (tmp_path / "data" / "kept").write_text("x")
    with pytest.raises(ValueError, match="not a storage key"):
        await store.delete("../kept")
    assert (tmp_path / "data" / "kept").exists()
