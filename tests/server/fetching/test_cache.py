"""The disk's share of fetched adapters: what stays, what goes, and what is not believed."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from twisted.internet.task import Clock

from server.fetching import cache
from server.fetching.cache import ROOM_WITHIN, AdapterCache, CachedFile, Key, hash_of_name
from server.interfaces import FetchedAdapter
from server.pools import InlinePool
from tests.server.fakes import HoldingPool, settle
from tests.server.fetching.made import content_of, names_in


def key(name: str, version: int = 1) -> Key:
    """An entry's."""
    return hash_of_name(name), f"{version:032x}"


class Scene:
    """A cache of 1,000 bytes, and what a test puts into it."""

    def __init__(self, root: Path, limit: int = 1000) -> None:
        self.root = root
        self.limit = limit
        self.clock: Any = Clock()
        self.cache = self.anew()

    def anew(self) -> AdapterCache:
        """As the next life of the server has it."""
        return AdapterCache(self.root, self.limit, InlinePool(), self.clock)

    async def put(self, at: Key, *contents: bytes) -> None:
        """Keep an adapter of these files."""
        async with self.cache.room(sum(map(len, contents)), at) as draft:
            files = []
            for index, data in enumerate(contents):
                (draft.folder / f"{index}.safetensors").write_bytes(data)
                files.append(CachedFile(f"{index}.safetensors", len(data), hashlib.sha256(data).hexdigest()))
            await self.cache.keep(at, draft, files)

    async def held(self, at: Key) -> FetchedAdapter:
        """It must be there."""
        held = await self.cache.hold(at)
        assert held is not None
        return held

    def on_disk(self) -> list[str]:
        """Everything below the root that is no folder, and what is in the root."""
        files = [path.relative_to(self.root).as_posix() for path in self.root.rglob("*") if not path.is_dir()]
        return sorted([*files, *(path.name for path in self.root.iterdir())])


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An empty one."""
    return Scene(tmp_path / "cache")


async def test_what_was_kept_is_there(scene: Scene) -> None:
    """A file that is alone as itself, several as their folder; nothing of the draft is left."""
    await scene.cache.open()
    await scene.put(key("a"), b"one")
    await scene.put(key("b"), b"one", b"two")
    one, both = await scene.held(key("a")), await scene.held(key("b"))
    assert content_of(one.path) == b"one"
    assert names_in(both.path) == ["0.safetensors", "1.safetensors"]
    assert scene.cache.used == 9
    assert [path.name for path in scene.root.glob(".*")] == []
    assert await scene.cache.hold(key("c")) is None


async def test_a_draft_that_is_not_kept_leaves_nothing(scene: Scene) -> None:
    """Neither a file nor a byte of room."""
    await scene.cache.open()
    async with scene.cache.room(500, key("a")) as draft:
        (draft.folder / "half").write_bytes(b"x")
        assert scene.cache.used == 500
    assert scene.cache.used == 0
    assert scene.on_disk() == []


async def test_the_next_life_finds_what_is_whole(scene: Scene) -> None:
    """In the order of its last use; drafts, strangers and links are cleared away."""
    await scene.cache.open()
    for name in "abc":
        await scene.put(key(name), name.encode() * 300)
        os.utime(scene.root / "-".join(key(name)) / "entry.json", (ord(name), ord(name)))
    (await scene.held(key("a"))).release()  # which is a use
    (scene.root / f".part-{'-'.join(key('p'))}" / "adapter").mkdir(parents=True)
    (scene.root / ".gone-0").mkdir()
    (scene.root / "stranger").write_text("x")
    (scene.root / "-".join(key("x"))).mkdir()
    (scene.root / "-".join(key("y"))).symlink_to("/etc")
    scene.cache = scene.anew()
    await scene.cache.open()
    assert scene.cache.used == 900
    assert len(list(scene.root.iterdir())) == 3
    await scene.put(key("d"), b"d" * 300)
    assert [scene.cache.has(key(name)) for name in "abcd"] == [True, False, True, True]


@pytest.mark.parametrize(
    "entry",
    ["not json", "{}", '{"files": []}', '{"files": [{"name": "../../x", "size": 1, "sha256": ""}]}',
     '{"files": [{"name": "../x", "size": 1, "sha256": ""}]}', '{"files": [{"name": "unet/..", "size": 1, "sha256": ""}]}',
     '{"files": [{"name": "/x", "size": 1, "sha256": ""}]}',
     '{"files": [{"name": "x", "size": -1, "sha256": ""}]}', '{"files": 7}'],
)  # fmt: skip
async def test_an_entry_that_makes_no_sense_is_none(scene: Scene, entry: str) -> None:
    """Whoever wrote it."""
    await scene.cache.open()
    await scene.put(key("a"), b"one")
    (scene.root / "-".join(key("a")) / "entry.json").write_text(entry)
    scene.cache = scene.anew()
    await scene.cache.open()
    assert not scene.cache.has(key("a"))
    assert scene.on_disk() == []


async def _break_off(cache: AdapterCache, at: Key, content: bytes) -> None:
    async with cache.room(500, at) as draft:
        (draft.folder / "x.safetensors").write_bytes(content)
        raise OSError("reset")


async def test_what_broke_off_goes_before_what_is_whole(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """It counts, and makes room for others first; one that nobody has noted, or with a link in it, is none."""
    monkeypatch.setattr(cache, "PART_WORTH", 100)
    await scene.cache.open()
    await scene.put(key("a"), b"a" * 300)
    with pytest.raises(OSError, match="reset"):
        await _break_off(scene.cache, key("b"), b"b" * 400)
    assert scene.cache.used == 700
    for name, content in (("c", "linked"), ("d", "small")):
        folder = scene.root / f".part-{'-'.join(key(name))}" / "adapter"
        folder.mkdir(parents=True)
        (folder / "x.safetensors").write_bytes(b"x" * (400 if content == "linked" else 99))
        if content == "linked":
            (folder / "y").symlink_to("/etc/passwd")
    scene.cache = scene.anew()
    await scene.cache.open()
    assert scene.cache.used == 700
    assert len(list(scene.root.glob(".part-*"))) == 1
    await scene.put(key("e"), b"e" * 400)
    assert (scene.cache.used, scene.cache.has(key("a"))) == (700, True)
    assert list(scene.root.glob(".part-*")) == []


async def test_a_smaller_limit_is_kept_from_the_start(scene: Scene) -> None:
    """What was used longest ago goes."""
    await scene.cache.open()
    await scene.put(key("a"), b"a" * 400)
    await scene.put(key("b"), b"b" * 400)
    scene.limit = 500
    os.utime(scene.root / "-".join(key("a")) / "entry.json", (1, 1))
    scene.cache = scene.anew()
    await scene.cache.open()
    assert (scene.cache.has(key("a")), scene.cache.has(key("b"))) == (False, True)


async def test_the_least_recently_used_goes_and_what_is_in_use_stays(scene: Scene) -> None:
    """Used is what was held lately."""
    await scene.cache.open()
    for name in "abc":
        await scene.put(key(name), name.encode() * 300)
    holding = await scene.held(key("a"))
    (await scene.held(key("b"))).release()
    await scene.put(key("d"), b"d" * 300)
    assert [scene.cache.has(key(name)) for name in "abcd"] == [True, True, False, True]
    await scene.put(key("e"), b"e" * 600)
    assert [scene.cache.has(key(name)) for name in "abcde"] == [True, False, False, False, True]
    assert content_of(holding.path) == b"a" * 300
    assert scene.cache.used == 900


async def test_an_older_version_goes_before_all_others(scene: Scene) -> None:
    """Unless somebody wears it still, who keeps the content that was there when the job began."""
    await scene.cache.open()
    await scene.put(key("other"), b"x" * 300)
    await scene.put(key("a", 1), b"1" * 300)
    holding = await scene.held(key("a", 1))
    await scene.put(key("a", 2), b"2" * 300)
    await scene.put(key("b"), b"b" * 50)
    assert content_of(holding.path) == b"1" * 300
    assert scene.cache.newest(hash_of_name("a")) == key("a", 2)
    holding.release()
    holding.release()  # once more changes nothing
    await scene.put(key("c"), b"c" * 300)
    assert [scene.cache.has(each) for each in (key("a", 1), key("a", 2), key("other"))] == [False, True, True]


async def test_who_finds_no_room_waits_for_what_is_in_use(scene: Scene) -> None:
    """And has it when that is let go."""
    await scene.cache.open()
    await scene.put(key("a"), b"a" * 900)
    holding = await scene.held(key("a"))
    waiting = asyncio.ensure_future(scene.put(key("b"), b"b" * 900))
    await settle()
    assert not waiting.done()
    holding.release()
    await waiting
    assert (scene.cache.has(key("a")), scene.cache.has(key("b"))) == (False, True)


async def test_nobody_waits_for_room_for_ever(scene: Scene) -> None:
    """It is a reason to try the job again later, not to hold it up; what never fits is not waited for."""
    await scene.cache.open()
    await scene.put(key("a"), b"a" * 900)
    holding = await scene.held(key("a"))
    waiting = asyncio.ensure_future(scene.put(key("b"), b"b" * 900))
    await settle()
    scene.clock.advance(ROOM_WITHIN)
    with pytest.raises(OSError, match="full of adapters in use"):
        await waiting
    with pytest.raises(OSError, match="1,001 bytes are more than the whole cache"):
        await scene.put(key("c"), b"c" * 1001)
    holding.release()
    assert scene.cache.used == 900
    assert scene.clock.getDelayedCalls() == []


def spoil(file: Path, how: str) -> None:
    """Make a cached file another."""
    if how == "shortened":
        file.write_bytes(file.read_bytes()[:-1])
    elif how == "another content":
        file.write_bytes(b"x" * file.stat().st_size)
    elif how == "gone":
        file.unlink()
    elif how == "a link":
        file.rename(file.with_name("aside"))
        file.symlink_to("aside")
    elif how == "a folder that is a link":
        file.parent.rename(file.parent.with_name("aside"))
        file.parent.symlink_to("aside")
    else:
        file.unlink()
        os.mkfifo(file)


HOWS = ("shortened", "another content", "gone", "a link", "a folder that is a link", "a pipe")


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("life", ["this", "next"])
async def test_a_corrupt_entry_is_not_given_out(scene: Scene, how: str, life: str) -> None:
    """It is forgotten and deleted, and the log says so; whether it was found sound before, or in an earlier life."""
    await scene.cache.open()
    await scene.put(key("a"), b"one and two")
    held = await scene.held(key("a"))
    held.release()
    spoil(Path(held.path), how)
    if life == "next":
        scene.cache = scene.anew()
        await scene.cache.open()
    with capture_logs() as logged:
        assert await scene.cache.hold(key("a")) is None
    assert [line["event"] for line in logged] == ["adapter.corrupt"]
    assert not scene.cache.has(key("a"))
    assert scene.cache.used == 0
    assert scene.on_disk() == []
    await scene.put(key("a"), b"one and two")
    assert content_of((await scene.held(key("a"))).path) == b"one and two"


async def test_what_did_not_change_is_not_hashed_again(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """150 MB for each job of a style would be a second's work."""
    await scene.cache.open()
    await scene.put(key("a"), b"one")
    await scene.held(key("a"))

    def nobody(handle: int) -> str:
        raise AssertionError("hashed")

    monkeypatch.setattr("server.fetching.cache._sha256", nobody)
    await scene.held(key("a"))


async def test_a_disk_that_fails_says_nothing_of_the_file(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry stays, and nobody holds it."""
    await scene.cache.open()
    await scene.put(key("a"), b"a" * 900)

    def failing(folder: Path, files: Sequence[CachedFile], sound: object) -> object:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr("server.fetching.cache._check", failing)
        with pytest.raises(OSError, match="Input/output"):
            await scene.cache.hold(key("a"))
    assert scene.cache.has(key("a"))
    await scene.put(key("b"), b"b" * 900)
    assert not scene.cache.has(key("a"))


async def test_an_entry_takes_the_place_of_what_was_there(scene: Scene) -> None:
    """The same version fetched again, and a folder that an earlier life did not get to know."""
    await scene.cache.open()
    await scene.put(key("a"), b"one")
    await scene.put(key("a"), b"three")
    assert scene.cache.used == 5
    stranger = scene.root / "-".join(key("b"))
    stranger.mkdir(parents=True)
    await scene.put(key("b"), b"two")
    assert json.loads((stranger / "entry.json").read_text())["files"][0]["size"] == 3


async def test_the_disk_is_touched_by_the_pool_alone(tmp_path: Path) -> None:
    """Opening, taking room, keeping, holding."""
    pool = HoldingPool()
    cache = AdapterCache(tmp_path / "cache", 1000, pool, Clock())
    opening = asyncio.ensure_future(cache.open())
    await settle()
    assert not (tmp_path / "cache").exists()
    pool.gate.set()
    await opening
    assert (tmp_path / "cache").is_dir()
    async with cache.room(1, key("a")):
        pass
    assert pool.asked == 3
