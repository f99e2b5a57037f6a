"""Pictures in a folder of this machine."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from server.pools import InlinePool
from server.storage import folders
from server.storage.local import LocalArtifacts
from tests.server.fakes import HoldingPool
from tests.server.storage.contract import StorageContract

KEY = "jobs/job-1/0.png"


@pytest.fixture
def store(tmp_path: Path) -> LocalArtifacts:
    """One over a folder that is not there yet."""
    return LocalArtifacts(tmp_path / "data" / "artifacts", InlinePool())


class TestLocalArtifacts(StorageContract):
    """The contract, in a folder."""


async def test_a_key_is_a_path_below_the_folder(store: LocalArtifacts, tmp_path: Path) -> None:
    """Whatever serves the folder finds the file there, and may read it as another user."""
    await store.put(KEY, b"png", "image/png", "")
    path = tmp_path / "data" / "artifacts" / "jobs" / "job-1" / "0.png"
    assert path.read_bytes() == b"png"
    assert path.stat().st_mode & 0o444 == 0o444


async def test_putting_again_leaves_nothing_else_in_the_folder(store: LocalArtifacts, tmp_path: Path) -> None:
    """No half-written file, whoever lists it."""
    await store.put(KEY, b"a long first one", "image/png", "")
    await store.put(KEY, b"second", "image/png", "")
    assert await store.read(KEY, 0, 100) == b"second"
    assert [path.name for path in (tmp_path / "data/artifacts/jobs/job-1").iterdir()] == ["0.png"]


async def test_a_picture_and_all_that_leads_to_it_is_on_the_disk(
    store: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file, the folder that names it, and the folders that name the new ones; those that were there need it no more."""
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        synced.append("file" if path.is_file() else str(path.relative_to(tmp_path / "data")))
        fsync(descriptor)

    monkeypatch.setattr(folders.os, "fsync", noted)  # type: ignore[attr-defined]
    await store.put("jobs/job-1/0.png", b"png", "image/png", "")
    assert synced == ["file", "artifacts", "artifacts/jobs", "artifacts/jobs/job-1"]
    synced.clear()
    await store.put("jobs/job-1/1.png", b"png", "image/png", "")
    assert synced == ["file", "artifacts/jobs/job-1"]


async def test_a_folder_that_somebody_else_has_just_made_is_waited_for_too(
    store: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made it may still wait: until it is known to be on the disk, each put sees to it; the next ones need not."""
    (tmp_path / "data/artifacts/jobs/job-1").mkdir(parents=True)
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    monkeypatch.setattr(folders.os, "fsync", noted)  # type: ignore[attr-defined]
    await store.put("jobs/job-1/0.png", b"png", "image/png", "")
    assert synced[1:] == ["artifacts", "jobs", "job-1"]
    await store.put("jobs/job-1/1.png", b"png", "image/png", "")
    assert synced[5:] == ["job-1"]
    for name in ("jobs/job-1/0.png", "jobs/job-1/1.png"):
        await store.delete(name)
    await store.put("jobs/job-1/2.png", b"png", "image/png", "")
    assert synced[7:] == ["jobs", "job-1"], "the folder was removed, and is a new one"


async def test_a_folder_that_another_process_made_anew_is_waited_for_too(
    store: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose name was known to be on the disk is gone, whoever deleted its last picture; of this one nobody knows."""
    jobs = tmp_path / "data/artifacts/jobs"
    synced: list[str] = []
    fsync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
        fsync(descriptor)

    other = LocalArtifacts(tmp_path / "data" / "artifacts", InlinePool())
    await store.put("jobs/hour/0.png", b"png", "image/png", "")
    os.utime(jobs, ns=(1, 1))  # so that clocks that are coarse still tell the change
    await store.put("jobs/hour/1.png", b"png", "image/png", "")
    monkeypatch.setattr(folders.os, "fsync", noted)  # type: ignore[attr-defined]
    await store.put("jobs/hour/2.png", b"png", "image/png", "")
    assert synced[1:] == ["hour"]
    for number in range(3):
        await other.delete(f"jobs/hour/{number}.png")
    (jobs / "hour").mkdir()  # by another process, which has not waited for it yet
    synced.clear()
    await store.put("jobs/hour/3.png", b"png", "image/png", "")
    assert synced[1:] == ["jobs", "hour"]


async def test_folders_that_go_with_the_one_above_while_a_picture_comes_are_made_anew(tmp_path: Path) -> None:
    """Each is opened anew, since none can be made in a folder that is gone."""
    known = folders.Folders(tmp_path, {})
    try:
        known.handle(("a",))
        (tmp_path / "a").rmdir()
        with pytest.raises(FileNotFoundError):
            known.handle(("a", "b"))
        known.forget(("a", "b"))
        known.handle(("a", "b"))
        known.keep(("a", "b"))
    finally:
        known.close()
    assert (tmp_path / "a" / "b").is_dir()


async def test_a_folder_that_cannot_be_opened_anew_is_one_picture_s_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its neighbours in the group are stored, also one in a folder below that, which the disk has still to be told of."""
    made = os.open
    troubles = [(".writing-", FileNotFoundError(2, "gone")), ("job-1", OSError(24, "Too many open files"))]

    def opening(path: Any, flags: int, *given: int, **named: int) -> int:
        handle = made(path, flags, *given, **named)
        above = os.readlink(f"/proc/self/fd/{named['dir_fd']}") if "dir_fd" in named else ""
        after_the_first = (tmp_path / "jobs" / "job-1" / "inner").exists() and not above.endswith("inner")
        if after_the_first and troubles and str(path).startswith(troubles[0][0]):
            os.close(handle)
            raise troubles.pop(0)[1]
        return handle

    monkeypatch.setattr(folders.os, "open", opening)  # type: ignore[attr-defined]
    store = LocalArtifacts(tmp_path, InlinePool())
    keys = ["jobs/job-1/inner/0.png", "jobs/job-1/1.png", "jobs/job-2/2.png"]
    puts = [store.put(key, b"png", "image/png", "") for key in keys]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert [str(outcome) for outcome in outcomes] == ["None", "[Errno 24] Too many open files", "None"]
    assert troubles == []
    assert [await store.read(key, 0, 9) for key in (keys[0], keys[2])] == [b"png"] * 2


async def test_a_folder_that_goes_while_a_picture_comes_is_made_anew(
    store: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever deletes the last picture of a folder removes that, also when another was just about to be put there."""
    made = os.open
    gone: list[str] = []

    def open_late(path: str, flags: int, *given: int, **named: int) -> int:
        if str(path).startswith(".writing-") and not gone:
            gone.append(path)
            (tmp_path / "data/artifacts/jobs/job-1").rmdir()
        return made(path, flags, *given, **named)

    monkeypatch.setattr(folders.os, "open", open_late)  # type: ignore[attr-defined]
    await store.put(KEY, b"png", "image/png", "")
    assert gone
    assert await store.read(KEY, 0, 9) == b"png"


async def test_the_disk_knows_of_all_pictures_before_one_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are written together then, not one after the other; where the disk cannot be told, they are stored all the same."""
    told: list[str] = []

    def begun(descriptor: int, *given: int) -> None:
        told.append("begun")
        raise OSError(29, "not here")

    def waited(descriptor: int) -> None:
        told.append("waited for")

    monkeypatch.setattr(folders.os, "posix_fadvise", begun)  # type: ignore[attr-defined]
    monkeypatch.setattr(folders.os, "fsync", waited)  # type: ignore[attr-defined]
    pool = HoldingPool()
    store = LocalArtifacts(tmp_path, InlinePool(), storing=pool)
    puts = [asyncio.ensure_future(store.put(f"jobs/hour/{n}.png", b"%d" % n, "image/png", "")) for n in range(3)]
    await asyncio.sleep(0)
    pool.gate.set()
    await asyncio.gather(*puts)
    assert told[:6] == ["begun"] * 3 + ["waited for"] * 3
    assert [await store.read(f"jobs/hour/{n}.png", 0, 9) for n in range(3)] == [b"0", b"1", b"2"]


async def test_pictures_that_come_at_once_wait_for_the_disk_together(tmp_path: Path) -> None:
    """A few groups are under way at a time; what comes meanwhile is the next, so that each folder is waited for once."""
    pool = HoldingPool()
    store = LocalArtifacts(tmp_path, InlinePool(), storing=pool)
    puts = [asyncio.ensure_future(store.put(f"jobs/job-{n}/0.png", b"%d" % n, "image/png", "")) for n in range(20)]
    await asyncio.sleep(0)
    pool.gate.set()
    await asyncio.gather(*puts)
    assert pool.asked == 2  # as many as a group has, then the rest
    assert [await store.read(f"jobs/job-{n}/0.png", 0, 9) for n in range(20)] == [b"%d" % n for n in range(20)]


async def test_what_is_wrong_with_one_picture_of_a_group_is_its_own(tmp_path: Path) -> None:
    """Its neighbours are stored; nothing half done is left."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "job-1").write_bytes(b"a file where a folder should be")
    (tmp_path / "jobs" / "job-3" / "0.png").mkdir(parents=True)
    store = LocalArtifacts(tmp_path, InlinePool())
    puts = [store.put(f"jobs/job-{n}/0.png", b"png", "image/png", "") for n in range(5)]
    outcomes = await asyncio.gather(*puts, return_exceptions=True)
    assert [isinstance(outcome, OSError) for outcome in outcomes] == [False, True, False, True, False]
    assert [await store.read(f"jobs/job-{n}/0.png", 0, 9) for n in (0, 2, 4)] == [b"png"] * 3
    assert [path.name for path in (tmp_path / "jobs" / "job-3").iterdir()] == ["0.png"]


async def test_who_waits_no_more_and_threads_that_have_ended_harm_no_other_picture(tmp_path: Path) -> None:
    """A put that was cancelled is let go; where nothing can be put any more, each caller hears it."""
    pool = HoldingPool()
    store = LocalArtifacts(tmp_path, InlinePool(), storing=pool)
    first, second = (asyncio.ensure_future(store.put(f"jobs/job-{n}/0.png", b"png", "image/png", "")) for n in (1, 2))
    await asyncio.sleep(0)
    first.cancel()
    pool.gate.set()
    await second
    pool.error = RuntimeError("cannot schedule new futures after shutdown")
    with pytest.raises(RuntimeError, match="shutdown"):
        await store.put(KEY, b"png", "image/png", "")
    pool.error = None
    await store.put(KEY, b"again", "image/png", "")
    assert await store.read(KEY, 0, 9) == b"again"


async def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(
    store: LocalArtifacts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full in mid-write: whole or not at all."""
    await store.put(KEY, b"first", "image/png", "")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders.os, "fsync", full)  # type: ignore[attr-defined]
    with pytest.raises(OSError, match="No space"):
        await store.put(KEY, b"second", "image/png", "")
    assert await store.read(KEY, 0, 100) == b"first"
    assert os.listdir(tmp_path / "data/artifacts/jobs/job-1") == ["0.png"]


@pytest.mark.parametrize("link", ["jobs/job-1/0.png", "jobs/job-1", "jobs"])
async def test_no_link_is_followed(store: LocalArtifacts, tmp_path: Path, link: str) -> None:
    """Neither for reading nor for writing nor for deleting, whichever part of the key it is."""
    elsewhere = tmp_path / "elsewhere" / "jobs" / "job-1"
    elsewhere.mkdir(parents=True)
    (elsewhere / "0.png").write_bytes(b"not ours")
    at = tmp_path / "data" / "artifacts" / link
    at.parent.mkdir(parents=True)
    at.symlink_to(tmp_path / "elsewhere" / link)
    for use in (store.read(KEY, 0, 10), store.stat(KEY)):
        with pytest.raises(OSError, match=r"links|directory"):
            await use
    if link != KEY:  # a link in the file's own place is replaced, or removed, as a file would be
        with pytest.raises(OSError, match=r"links|directory"):
            await store.put(KEY, b"png", "image/png", "")
    with suppress(OSError):
        await store.delete(KEY)
    assert (elsewhere / "0.png").read_bytes() == b"not ours"


async def test_what_is_no_plain_file_is_not_read(store: LocalArtifacts, tmp_path: Path) -> None:
    """A pipe would be waited for."""
    folder = tmp_path / "data" / "artifacts"
    (folder / "jobs" / "job-1").mkdir(parents=True)
    os.mkfifo(folder / KEY)
    for key in (KEY, "jobs/job-1"):
        with pytest.raises(FileNotFoundError, match="plain file"):
            await store.read(key, 0, 10)


async def test_a_folder_in_the_way_is_an_os_error(store: LocalArtifacts, tmp_path: Path) -> None:
    """What the storage raises is what its interface says."""
    (tmp_path / "data").write_bytes(b"a file where the folder should be")
    with pytest.raises(OSError, match="data"):
        await store.put(KEY, b"png", "image/png", "")


async def test_addresses_are_told_where_something_serves_the_folder(tmp_path: Path) -> None:
    """With or without a slash at the base's end; a key is quoted."""
    for base in ("https://pictures.test/files", "https://pictures.test/files/"):
        store = LocalArtifacts(tmp_path, InlinePool(), base)
        assert await store.address("jobs/a b/0.png") == "https://pictures.test/files/jobs/a%20b/0.png"


async def test_the_disk_is_touched_by_the_pool_alone(tmp_path: Path) -> None:
    """Both ways."""
    pool = HoldingPool()
    pool.gate.set()
    store = LocalArtifacts(tmp_path, pool)
    await store.put(KEY, b"png", "image/png", "")
    await store.read(KEY, 0, 3)
    assert pool.asked == 2


async def test_a_deleted_picture_leaves_nothing_behind(store: LocalArtifacts, tmp_path: Path) -> None:
    """Neither file nor folder; its neighbour stays, and deleting what is not there is no error."""
    root = tmp_path / "data" / "artifacts"
    await store.put(KEY, b"png", "image/png", "")
    await store.put("jobs/job-1/1.png", b"png", "image/png", "")
    await store.delete(KEY)
    await store.delete(KEY)
    assert sorted(path.name for path in (root / "jobs" / "job-1").iterdir()) == ["1.png"]
    await store.delete("jobs/job-1/1.png")
    await store.delete("jobs/job-2/0.png")
    assert list((root / "jobs").iterdir()) == []
