"""A name to a path: fetched once, checked, resumed, refused, fetched anew when it has changed."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from twisted.internet.task import Clock

from server.adapter_names import Rules, StoredFile, StoredFolders
from server.errors import Code, JobFailure, Refusal
from server.fetching import cache, download
from server.fetching.adapters import FetchedAdapters
from server.fetching.cache import AdapterCache
from server.fetching.download import PAUSES
from server.fetching.origins import StorageOrigin
from server.interfaces import FetchedAdapter
from server.pools import InlinePool
from tests.server.fakes import settle
from tests.server.fetching.made import FakeStorage, content_of, files_in, made, names_in
from tests.server.fetching.test_cache import spoil

KEY = "models/a.safetensors"
NAME = f"storage:{KEY}"
MAX, CHECK = 1000, 30.0


class Scene:
    """A source of adapters over a storage that does what a test wants."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage = FakeStorage(**{KEY: made(300)})
        self.clock: Any = Clock()
        self.source = self.anew()

    def anew(self) -> FetchedAdapters:
        """As the next life of the server has it."""
        pool = InlinePool()
        self.cache = AdapterCache(self.root, 3 * MAX, pool, self.clock)
        return FetchedAdapters(
            rules=Rules(keys=("models/",)),
            origin=self.origin,
            cache=self.cache,
            pool=pool,
            clock=self.clock,
            max_bytes=MAX,
            check_seconds=CHECK,
        )

    def origin(self, place: object) -> StorageOrigin:
        """Only the storage is here."""
        assert isinstance(place, (StoredFile, StoredFolders))
        return StorageOrigin(self.storage, place)

    async def fetched(self, name: str = NAME) -> FetchedAdapter:
        """An adapter, time going on where somebody waits."""
        asking = asyncio.ensure_future(self.source.fetch(name))
        for _ in range(20):
            await settle()
            if asking.done():
                break
            self.clock.advance(1.0)
        return await asking

    async def content(self, name: str = NAME) -> bytes:
        """What an adapter has in it, let go at once."""
        held = await self.fetched(name)
        held.release()
        return content_of(held.path)

    async def failure(self, name: str = NAME, *, leaves_part: bool = False) -> JobFailure:
        """Why it cannot be had."""
        with pytest.raises(JobFailure) as failed:
            await self.fetched(name)
        assert bool(list(self.root.glob(".*"))) == leaves_part
        return failed.value


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """An open one."""
    made_scene = Scene(tmp_path / "cache")
    (tmp_path / "cache").mkdir()
    return made_scene


async def test_an_adapter_is_fetched_once_for_all_who_want_it(scene: Scene) -> None:
    """Those who come while it is fetched wait with the first; later ones find it."""
    scene.storage.gate = asyncio.Event()
    asking = [asyncio.ensure_future(scene.source.fetch(NAME)) for _ in range(5)]
    await settle()
    scene.storage.gate.set()
    held = await asyncio.gather(*asking)
    assert len({one.path for one in held}) == 1
    assert Path(held[0].path).name == "a.safetensors"
    assert await scene.content() == made(300)
    assert scene.storage.streams == [(KEY, 0)]
    assert scene.storage.stats == [KEY]


async def test_who_stops_waiting_takes_nothing_from_the_others(scene: Scene) -> None:
    """The download goes on."""
    scene.storage.gate = asyncio.Event()
    first, second = (asyncio.ensure_future(scene.source.fetch(NAME)) for _ in range(2))
    await settle()
    first.cancel()
    await settle()
    scene.storage.gate.set()
    assert content_of((await second).path) == made(300)


async def test_an_adapter_that_has_changed_is_fetched_anew(scene: Scene) -> None:
    """Whether it has is asked every so often; a job that wears the old one keeps it."""
    old = await scene.fetched()
    scene.storage.objects[KEY] = made(300, seed=1)
    scene.clock.advance(CHECK - 1)
    assert await scene.content() == made(300)
    scene.clock.advance(1)
    assert await scene.content() == made(300, seed=1)
    assert content_of(old.path) == made(300)
    assert scene.storage.stats == [KEY, KEY]


async def test_the_next_life_uses_what_this_one_has_fetched(scene: Scene) -> None:
    """After asking whether it is still the same."""
    await scene.content()
    scene.source = scene.anew()
    await scene.cache.open()
    assert await scene.content() == made(300)
    assert scene.storage.streams == [(KEY, 0)]


async def test_a_corrupt_entry_is_fetched_again(scene: Scene) -> None:
    """At once, whoever spoiled it."""
    held = await scene.fetched()
    held.release()
    spoil(Path(held.path), "another content")
    assert await scene.content() == made(300)
    assert len(scene.storage.streams) == 2


async def test_a_fault_in_the_middle_is_gone_on_from(scene: Scene) -> None:
    """From the byte where it was, after a pause."""
    scene.storage.faults = [(100, OSError("reset")), (0, OSError("reset")), (1, OSError("reset"))]
    assert await scene.content() == made(300)
    assert scene.storage.streams == [(KEY, 0), (KEY, 100), (KEY, 100), (KEY, 101)]


async def test_a_storage_that_stays_away_is_a_reason_to_try_later(scene: Scene) -> None:
    """STORAGE_FAILED, after the last pause; nothing of it is left on the disk."""
    scene.storage.faults = [(10, OSError("reset")) for _ in range(len(PAUSES) + 1)]
    failure = await scene.failure()
    assert (failure.code, str(failure)) == (Code.STORAGE_FAILED, f"{NAME}: reset")
    assert scene.cache.used == 0
    assert await scene.content() == made(300)


async def test_a_file_that_ends_too_early_is_not_taken_for_whole(scene: Scene) -> None:
    """However politely the connection was closed."""

    class Short(FakeStorage):
        async def pieces(self, key: str, offset: int, etag: str):  # type: ignore[no-untyped-def]
            yield self.objects[key][offset : offset + 50]

    scene.storage = Short(**{KEY: made(300)})
    failure = await scene.failure()
    assert failure.code is Code.STORAGE_FAILED
    assert "ended after 200 of 300 bytes" in str(failure)


async def test_an_object_that_changes_while_it_is_fetched_is_begun_anew(scene: Scene) -> None:
    """Half of one and half of another would be neither."""

    class Changing(FakeStorage):
        changes = 1

        async def pieces(self, key: str, offset: int, etag: str):  # type: ignore[no-untyped-def]
            if self.changes:
                self.changes -= 1
                self.objects[key] = made(300, seed=self.changes + 7)
            async for piece in FakeStorage.pieces(self, key, offset, etag):
                yield piece

    scene.storage = Changing(**{KEY: made(300)})
    assert await scene.content() == made(300, seed=7)
    scene.storage.changes = 99
    scene.clock.advance(CHECK)
    scene.storage.objects[KEY] = made(300, seed=50)
    assert (await scene.failure()).code is Code.STORAGE_FAILED


@pytest.mark.parametrize("known", [True, False])
async def test_one_that_is_too_large_is_refused(scene: Scene, known: bool) -> None:
    """Before it is fetched where its size is known, else at the first byte too many: two gigabytes fill no disk."""
    scene.storage.objects[KEY] = made(MAX + 1)
    if not known:

        class Silent(StorageOrigin):
            async def look(self):  # type: ignore[no-untyped-def]
                (file,) = await StorageOrigin.look(self)
                return [type(file)(file.name, None, file.etag, file.pieces)]

        scene.origin = lambda place: Silent(scene.storage, place)  # type: ignore[method-assign, arg-type]
        scene.source = scene.anew()
    failure = await scene.failure()
    assert failure.code is Code.ADAPTER_INVALID
    assert "1,000 (MAX_ADAPTER_BYTES)" in str(failure)
    assert len(scene.storage.streams) == (0 if known else 1)
    assert scene.cache.used == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x80\x04\x95" + b"x" * 300, "is a pickle"), (b"PK\x03\x04" + b"x" * 300, "is a pickle"),
        (b"<!DOCTYPE html>" + b" " * 300, "no safetensors file"), (b"", "0 bytes"), (b"12345678", "8 bytes"),
        ((10**9).to_bytes(8, "little") + b"{" + b" " * 300, "no safetensors file"),
        ((301).to_bytes(8, "little") + b"{" + b" " * 291, "no safetensors file"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 64])
async def test_what_is_no_safetensors_file_is_refused_by_its_first_bytes(
    scene: Scene, content: bytes, says: str, piece: int
) -> None:
    """Whatever it is called, however it comes; and no more of it is fetched."""
    scene.storage.objects[KEY] = content
    scene.storage.piece = piece
    failure = await scene.failure()
    assert failure.code is Code.ADAPTER_INVALID
    assert says in str(failure)


async def test_a_header_whose_length_begins_like_a_pickle_is_none(scene: Scene) -> None:
    """128 bytes of header are 0x80 to start with."""
    scene.storage.objects[KEY] = (128).to_bytes(8, "little") + b"{}" + b" " * 126
    assert len(await scene.content()) == 136


async def test_a_folder_s_files_come_together(scene: Scene) -> None:
    """As PEFT saves them; a configuration that is none is refused by its size."""
    folder = "models/style-7"
    scene.storage.objects |= {f"{folder}/adapter_model.safetensors": made(300), f"{folder}/adapter_config.json": b"{}"}
    held = await scene.fetched("storage:style:7")
    assert names_in(held.path) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    held.release()
    scene.storage.objects[f"{folder}/adapter_config.json"] = b" " * 900
    scene.clock.advance(CHECK)
    assert (await scene.failure("storage:style:7")).code is Code.ADAPTER_INVALID


async def test_a_folder_of_several_networks_keeps_its_shape(scene: Scene) -> None:
    """Also in the next life, and with one network alone; a sub-folder that is a link to elsewhere is fetched again."""
    await scene.cache.open()
    folder = "models/style-7"
    one = {f"{folder}/unet/adapter_model.safetensors": made(300), f"{folder}/unet/adapter_config.json": b"{}"}
    scene.storage.objects |= one
    assert files_in((await scene.fetched("storage:style:7")).path) == [
        "unet/adapter_config.json",
        "unet/adapter_model.safetensors",
    ]
    del scene.storage.objects[f"{folder}/unet/adapter_config.json"]
    scene.clock.advance(CHECK)
    assert files_in((await scene.fetched("storage:style:7")).path) == ["unet/adapter_model.safetensors"]
    scene.storage.objects |= one | {f"{folder}/text_encoder/adapter_model.safetensors": made(250, 1)}
    scene.clock.advance(CHECK)
    wanted = ["text_encoder/adapter_model.safetensors", "unet/adapter_config.json", "unet/adapter_model.safetensors"]
    assert files_in((await scene.fetched("storage:style:7")).path) == wanted
    scene.source = scene.anew()
    await scene.cache.open()
    scene.storage.streams.clear()
    held = await scene.fetched("storage:style:7")
    assert files_in(held.path) == wanted
    assert scene.storage.streams == []
    held.release()
    spoil(Path(held.path) / "unet" / "adapter_model.safetensors", "a folder that is a link")
    assert files_in((await scene.fetched("storage:style:7")).path) == wanted
    assert scene.storage.streams


async def test_a_configuration_of_a_megabyte_is_none(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though an adapter might be larger."""
    monkeypatch.setattr("server.fetching.adapters.MAX_CONFIG_BYTES", 100)
    folder = "models/style-7"
    scene.storage.objects |= {
        f"{folder}/adapter_model.safetensors": made(300),
        f"{folder}/adapter_config.json": b" " * 101,
    }
    assert "configuration has more than 100 bytes" in str(await scene.failure("storage:style:7"))


async def test_what_is_not_there_is_told(scene: Scene) -> None:
    """ADAPTER_NOT_FOUND; it is looked for again the next time."""
    assert (await scene.failure("storage:models/b.safetensors")).code is Code.ADAPTER_NOT_FOUND
    scene.storage.objects["models/b.safetensors"] = made(200)
    assert await scene.content("storage:models/b.safetensors") == made(200)


async def test_a_storage_that_cannot_be_asked_changes_nothing_that_is_here(scene: Scene) -> None:
    """The last version is used, and the log says that it was not checked; what is not here fails."""
    await scene.content()
    scene.clock.advance(CHECK)
    scene.storage.away = OSError("no route")
    with capture_logs() as logged:
        assert await scene.content() == made(300)
    assert [(line["event"], line["reason"]) for line in logged] == [("adapter.unchecked", "no route")]
    failure = await scene.failure("storage:models/b.safetensors")
    assert (failure.code, str(failure)) == (Code.STORAGE_FAILED, "storage:models/b.safetensors: no route")


async def test_a_name_that_can_never_be_fetched_fails_as_it_is_refused(scene: Scene) -> None:
    """A job may be older than the settings that refuse it; no key of an address is told."""
    with pytest.raises(Refusal, match="not one of adapters"):
        scene.source.check("storage:jobs/x.safetensors")
    scene.source.check(NAME)
    failure = await scene.failure("https://files.test/a.safetensors?token=s3cret")
    assert failure.code is Code.ADAPTER_INVALID
    assert str(failure).startswith("https://files.test/a.safetensors: files.test is not an allowed host")


async def test_an_entry_that_never_stays_is_not_fetched_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else deletes the cache's files all the time."""

    async def nothing(key: object) -> None:
        return None

    monkeypatch.setattr(scene.cache, "hold", nothing)
    failure = await scene.failure()
    assert failure.code is Code.STORAGE_FAILED
    assert "does not stay" in str(failure)


async def test_names_are_not_remembered_without_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest is asked for again."""
    monkeypatch.setattr("server.fetching.adapters.NAMES_KNOWN", 1)
    scene.storage.objects["models/b.safetensors"] = made(200)
    for name in (NAME, "storage:models/b.safetensors", NAME):
        await scene.content(name)
    assert scene.storage.stats == [KEY, "models/b.safetensors", KEY]
    assert len(scene.storage.streams) == 2


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks off is worth going on with, and is noted, from the first bytes on."""
    monkeypatch.setattr(cache, "PART_WORTH", 1)
    monkeypatch.setattr(download, "NOTE_EVERY", 64)


HALF = [(100, OSError("reset")), *[(0, OSError("reset"))] * len(PAUSES)]


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("life", ["this", "next"])
async def test_what_broke_off_is_gone_on_with(scene: Scene, life: str) -> None:
    """By the next try, also of the server's next life; it takes its room meanwhile, and leaves nothing beside the adapter."""
    await scene.cache.open()
    scene.storage.faults = list(HALF)
    assert (await scene.failure(leaves_part=True)).code is Code.STORAGE_FAILED
    assert 100 <= scene.cache.used < 300
    if life == "next":
        scene.source = scene.anew()
        await scene.cache.open()
        assert 100 <= scene.cache.used < 300
    scene.storage.streams.clear()
    held = await scene.fetched()
    assert content_of(held.path) == made(300)
    assert scene.storage.streams == [(KEY, 100)]
    assert scene.cache.used == 300
    assert files_in(str(scene.root)) == [
        name for name in files_in(str(scene.root)) if name.endswith(("entry.json", "/a.safetensors"))
    ]


@pytest.mark.usefixtures("small_parts")
async def test_a_kill_in_the_middle_costs_what_was_not_noted(scene: Scene) -> None:
    """The next life begins at the last note."""
    await scene.cache.open()
    scene.storage.gate = asyncio.Event()
    scene.storage.gate_at = 128
    asking = asyncio.ensure_future(scene.source.fetch(NAME))
    await settle()
    killed, scene.storage.gate = scene.source, None
    shutil.copytree(scene.root, scene.root.with_name("after the kill"))
    scene.root = scene.root.with_name("after the kill")
    scene.source = scene.anew()
    await scene.cache.open()
    scene.storage.streams.clear()
    assert await scene.content() == made(300)
    assert scene.storage.streams == [(KEY, 128)]
    await killed.stop()
    with pytest.raises((asyncio.CancelledError, JobFailure)):
        await asking


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("how", ["another content", "shortened", "no note", "a note of nonsense", "a link"])
async def test_a_part_that_is_not_what_was_noted_is_begun_anew(scene: Scene, how: str) -> None:
    """Whoever changed it."""
    await scene.cache.open()
    scene.storage.faults = list(HALF)
    await scene.failure(leaves_part=True)
    (part,) = scene.root.glob(".part-*/adapter/a.safetensors")
    note = part.with_name(".a.safetensors.part")
    if how == "no note":
        note.unlink()
    elif how == "a note of nonsense":
        note.write_text('{"size": -3}')
    else:
        spoil(part, how)
    scene.source = scene.anew()
    await scene.cache.open()
    scene.storage.streams.clear()
    assert await scene.content() == made(300)
    assert scene.storage.streams == [(KEY, 0)]


@pytest.mark.usefixtures("small_parts")
async def test_a_part_of_another_version_is_of_no_use(scene: Scene) -> None:
    """An adapter that has changed meanwhile is fetched from its beginning, and the part goes."""
    await scene.cache.open()
    scene.storage.faults = list(HALF)
    await scene.failure(leaves_part=True)
    scene.storage.objects[KEY] = made(300, seed=1)
    scene.storage.streams.clear()
    assert await scene.content() == made(300, seed=1)
    assert scene.storage.streams == [(KEY, 0)]
    assert scene.cache.used == 300
    assert list(scene.root.glob(".part-*")) == []


@pytest.mark.usefixtures("small_parts")
async def test_of_two_files_the_one_that_is_whole_is_not_fetched_again(scene: Scene) -> None:
    """The second broke off."""
    await scene.cache.open()
    folder = "models/style-7"
    config = f"{folder}/adapter_config.json"
    scene.storage.objects |= {f"{folder}/adapter_model.safetensors": made(300), config: b"{" + b" " * 100 + b"}"}
    scene.storage.faults = [(1000, OSError("none")), *[(0, OSError("reset"))] * (len(PAUSES) + 1)]
    await scene.failure("storage:style:7", leaves_part=True)
    scene.storage.streams.clear()
    held = await scene.fetched("storage:style:7")
    assert names_in(held.path) == ["adapter_config.json", "adapter_model.safetensors"]
    assert [key for key, _ in scene.storage.streams] == [config]


@pytest.mark.usefixtures("small_parts")
async def test_what_is_refused_leaves_no_part(scene: Scene) -> None:
    """It would be refused again."""
    await scene.cache.open()
    scene.storage.objects[KEY] = b"\x80\x04\x95" + b"x" * 300
    scene.storage.piece = 4
    await scene.failure()
    assert (scene.cache.used, list(scene.root.iterdir())) == (0, [])


@pytest.mark.parametrize("where", ["stream", "pause"])
async def test_stopping_gives_up_what_is_under_way(scene: Scene, where: str) -> None:
    """And leaves no half file."""
    if where == "stream":
        scene.storage.gate = asyncio.Event()
    else:
        scene.storage.faults = [(0, OSError("reset"))]
    asking = asyncio.ensure_future(scene.source.fetch(NAME))
    await settle()
    await scene.source.stop()
    with pytest.raises((asyncio.CancelledError, JobFailure)):
        await asking
    assert list(scene.root.iterdir()) == []
    assert scene.clock.getDelayedCalls() == []
