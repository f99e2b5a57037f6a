"""Models that are fetched: from a storage in memory, and from a hub that is played on this machine."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ai.types import ModelLoadError
from server.catalogue.places import PlaceRules
from server.errors import Refusal
from server.fetching.models import ModelFiles
from server.interfaces import StoredObject
from server.pools import ThreadedPool

COMMIT = "0123456789abcdef0123456789abcdef01234567"
FILES = {"model_index.json": b'{"_class_name": "X"}', "unet/weights.safetensors": b"w" * 5000, "README.md": b"read me"}


class MemoryFiles:
    """A `FileStore`."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.reads = 0
        self.torn = False

    async def stat(self, key: str) -> StoredObject:
        """Its size."""
        if key not in self.files:
            raise FileNotFoundError(key)
        return StoredObject(len(self.files[key]), "e")

    async def pieces(self, key: str, offset: int, etag: str) -> AsyncIterator[bytes]:
        """In pieces of a thousand bytes."""
        self.reads += 1
        data = self.files[key][: -1 if self.torn else None]
        for at in range(offset, len(data), 1000):
            yield data[at : at + 1000]

    async def keys(self, folder: str, most: int) -> list[str]:
        """Those below it."""
        return sorted(key for key in self.files if key.startswith(f"{folder}/"))[:most]

    async def put_file(self, key: str, path: Path) -> None:
        """Nobody does here."""
        raise AssertionError

    async def delete(self, key: str) -> None:
        """Nor that."""
        raise AssertionError


@pytest.fixture
def pool() -> Iterator[ThreadedPool]:
    """Threads."""
    made = ThreadedPool("models", 2)
    made.start()
    yield made
    made.stop()


def fetcher(pool: ThreadedPool, root: Path, storage: MemoryFiles | None = None, **more: Any) -> ModelFiles:
    """One node's."""
    rules = PlaceRules(roots=[root / "own"], keys=["models/"], hub=True)
    given: dict[str, Any] = {"max_bytes": 1_000_000, **more}
    return ModelFiles(rules=rules, storage=storage or MemoryFiles({}), pool=pool, root=root / "cache", **given)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below it."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_a_folder_of_the_storage_is_fetched_once(pool: ThreadedPool, tmp_path: Path) -> None:
    """However many ask, and after a restart; let go of, it is gone."""
    storage = MemoryFiles({f"models/fox/{name}": data for name, data in FILES.items()})
    files = fetcher(pool, tmp_path, storage)
    found = await asyncio.gather(*(files.bring("storage:models/fox", "ada/fox:1@a") for _ in range(3)))
    assert len(set(found)) == 1
    assert contents(found[0]) == FILES
    assert await fetcher(pool, tmp_path, storage).bring("storage:models/fox", "ada/fox:1@a") == found[0]
    assert storage.reads == len(FILES)
    await files.let_go("ada/fox:1@a")
    assert not found[0].exists()


async def test_one_file_of_the_storage_is_fetched_as_it_is_called(pool: ThreadedPool, tmp_path: Path) -> None:
    """By its own name."""
    files = fetcher(pool, tmp_path, MemoryFiles({"models/fox.safetensors": b"weights"}))
    path = await files.bring("storage:models/fox.safetensors", "n")
    assert (path.name, path.read_bytes()) == ("fox.safetensors", b"weights")


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        ({}, "has no such folder"),
        ({"models/fox/a.ckpt": b"x"}, "a pickle"),
        ({"models/fox/a.safetensors": b"x" * 2000}, r"2,000 bytes; one model may have 1,000"),
        ({f"models/fox/{number}.json": b"" for number in range(2001)}, "more than 2000 files"),
    ],
)
async def test_what_is_no_model_leaves_nothing_behind(
    pool: ThreadedPool, tmp_path: Path, stored: dict[str, bytes], problem: str
) -> None:
    """And is not fetched where its size is known to be too much."""
    storage = MemoryFiles(stored)
    files = fetcher(pool, tmp_path, storage, max_bytes=1000)
    with pytest.raises(ModelLoadError, match=problem):
        await files.bring("storage:models/fox", "n")
    assert storage.reads == 0
    assert contents(tmp_path) == {}


async def test_a_file_that_changes_meanwhile_is_a_fault(pool: ThreadedPool, tmp_path: Path) -> None:
    """Which may go well the next time."""
    storage = MemoryFiles({"models/fox.safetensors": b"weights"})
    storage.torn = True
    files = fetcher(pool, tmp_path, storage)
    with pytest.raises(OSError, match="has changed"):
        await files.bring("storage:models/fox.safetensors", "n")
    storage.torn = False
    assert (await files.bring("storage:models/fox.safetensors", "n")).read_bytes() == b"weights"


async def test_a_path_of_this_machine_is_used_where_it_lies(pool: ThreadedPool, tmp_path: Path) -> None:
    """One that leads elsewhere is refused before it is looked for."""
    (tmp_path / "own" / "fox").mkdir(parents=True)
    files = fetcher(pool, tmp_path)
    assert await files.bring("fox", "n") == tmp_path / "own" / "fox"
    with pytest.raises(Refusal):
        await files.bring("../cache", "n")
    with pytest.raises(ModelLoadError, match="no such file or folder"):
        await files.bring("hen", "n")


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's API as its library asks for: what a repository holds, and its files."""

    def log_message(self, *told: Any) -> None:
        """Silently."""

    def do_HEAD(self) -> None:
        """Of a file, its size and hash."""
        self._file(with_content=False)

    def do_GET(self) -> None:
        """A file, or what there is."""
        if self.path.startswith("/api/models/fox/hen"):
            listed = [{"rfilename": name, "size": len(data)} for name, data in FILES.items()]
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": _etag(data)} for name, data in FILES.items()
            ]
            told: Any = tree if "/tree/" in self.path else {"id": "fox/hen", "sha": COMMIT, "siblings": listed}
            self._answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})
        elif self.path.startswith("/fox/hen/resolve/"):
            self._file(with_content=True)
        else:
            self._answer(404, b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"})

    def _file(self, *, with_content: bool) -> None:
        name = self.path.partition("/resolve/")[2].partition("/")[2].partition("?")[0]
        data = FILES.get(name)
        if data is None:
            self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
            return
        headers = {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": COMMIT}
        self._answer(200, data, headers, with_content=with_content)

    def _answer(self, status: int, data: bytes, headers: dict[str, str], *, with_content: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_content and self.command == "GET":
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A hub on this machine, which the library asks instead of its own."""
    import huggingface_hub.constants as constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(
        constants, "HF_HUB_OFFLINE", False
    )  # other tests see to it that nothing is asked of the real one
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield address
    server.shutdown()
    server.server_close()
    thread.join()


async def test_a_model_of_the_hub_is_fetched(hub: str, pool: ThreadedPool, tmp_path: Path) -> None:
    """Weights in safetensors and configurations alone; by what may be a path too, where there is none."""
    files = fetcher(pool, tmp_path)
    wanted = {name: data for name, data in FILES.items() if name != "README.md"}
    assert contents(await files.bring("hub:fox/hen", "one")) == wanted
    assert contents(await files.bring("fox/hen", "two")) == wanted


async def test_what_the_hub_does_not_have_is_refused(hub: str, pool: ThreadedPool, tmp_path: Path) -> None:
    """With its name; what is too large before it is fetched."""
    with pytest.raises(ModelLoadError, match=r"fox/cow: the hub has no such model"):
        await fetcher(pool, tmp_path).bring("hub:fox/cow", "one")
    with pytest.raises(ModelLoadError, match="one model may have 100"):
        await fetcher(pool, tmp_path, max_bytes=100).bring("hub:fox/hen", "two")
    assert contents(tmp_path) == {}
