"""The `ModelSource`: a registered model's files, on this machine. What is fetched lies in a folder of its own, whole or not at
all.

ROOT/.registered/{card}/        a model that was fetched; {card} is a hash of its card's name
ROOT/.registered/.part-{card}/  one on its way, which is gone on with or begun anew
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
from contextlib import aclosing
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import structlog

from ai.pickles import PICKLES
from ai.types import ModelLoadError
from server.catalogue.places import InStorage, ModelPlace, OnDisk, OnHub, PlaceRules, find_local, instead, read_place
from server.interfaces import FileStore, Pool

log = structlog.get_logger("atelier.models")

MAX_FILES = 2000
TOLD = (
    ".safetensors",
    ".json",
    ".txt",
    ".toml",
    ".model",
)  # of a hub's files what is fetched: weights and configurations
HUB_ETAG_SECONDS = 10.0  # until a hub that does not answer is given up


class ModelFiles:
    """`root` is this node's; a fetched model may have `max_bytes`."""

    def __init__(self, *, rules: PlaceRules, storage: FileStore, pool: Pool, root: Path, max_bytes: int) -> None:
        self._rules = rules
        self._storage = storage
        self._pool = pool
        self._root = root.absolute() / ".registered"
        self._max_bytes = max_bytes
        self._locks: dict[str, asyncio.Lock] = {}

    async def bring(self, path: str, name: str) -> Path:
        """The folder or file on this machine."""
        place = read_place(path, self._rules)
        if isinstance(place, OnDisk):
            try:
                return await self._pool.run(find_local, place, self._rules)
            except ModelLoadError:
                other = instead(place, self._rules)
                if other is None:
                    raise
                place = other
        async with self._locks.setdefault(name, asyncio.Lock()):
            return await self._fetched(place, self._root / _folder_name(name))

    async def let_go(self, name: str) -> None:
        """Delete what was fetched for a card."""
        self._locks.pop(name, None)
        await self._pool.run(partial(shutil.rmtree, self._root / _folder_name(name), ignore_errors=True))

    async def _fetched(self, place: ModelPlace, folder: Path) -> Path:
        if not await self._pool.run(folder.is_dir):
            hub = isinstance(
                place, OnHub
            )  # whose library goes on with what has come, and shares it with other processes
            part = folder.with_name(f".part-{folder.name}" if hub else f".part-{folder.name}-{os.getpid()}")
            try:
                if isinstance(place, OnHub):
                    await self._pool.run(_from_hub, place, part, self._max_bytes)
                else:
                    await self._from_storage(cast(InStorage, place), part)
                await self._pool.run(part.rename, folder)
            except (ModelLoadError, OSError) as error:
                if not await self._pool.run(folder.is_dir):  # another process was faster
                    if isinstance(error, ModelLoadError) or not hub:
                        await self._pool.run(partial(shutil.rmtree, part, ignore_errors=True))
                    raise
        single = isinstance(place, InStorage) and not place.key.endswith("/")
        return folder / PurePosixPath(place.key).name if single and isinstance(place, InStorage) else folder

    async def _from_storage(self, place: InStorage, part: Path) -> None:
        """Every file of a folder, or the one."""
        base = place.key.rstrip("/")
        keys = await self._storage.keys(base, MAX_FILES + 1) if place.key.endswith("/") else [place.key]
        if not keys:
            raise ModelLoadError(f"{place.key}: the storage has no such folder")
        if len(keys) > MAX_FILES:
            raise ModelLoadError(f"{place.key}: has more than {MAX_FILES} files")
        for key in keys:
            if PurePosixPath(key).suffix.lower() in PICKLES:
                raise ModelLoadError(f"{key}: a pickle, which can run code; only .safetensors is read")
        try:
            sizes = {key: (await self._storage.stat(key)).size for key in keys}
        except FileNotFoundError:
            raise ModelLoadError(f"{place.key}: the storage has no such file") from None
        _check_size(sum(sizes.values()), self._max_bytes)
        await self._pool.run(partial(shutil.rmtree, part, ignore_errors=True))
        for key, size in sizes.items():
            inner = PurePosixPath(key).name if key == place.key else key.removeprefix(f"{base}/")
            await self._copy(key, size, part / inner)

    async def _copy(self, key: str, size: int, target: Path) -> None:
        file = await self._pool.run(_opened, target)
        try:
            left = size
            async with aclosing(cast(Any, self._storage.pieces(key, 0, ""))) as pieces:
                async for piece in pieces:
                    left -= len(piece)
                    await self._pool.run(file.write, piece)
            if left:
                raise OSError(f"{key}: has changed while it was fetched")
        finally:
            await self._pool.run(file.close)


def _folder_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _opened(target: Path) -> BinaryIO:
    target.parent.mkdir(parents=True, exist_ok=True)
    return target.open("wb")


def _check_size(size: int, most: int) -> None:
    if size > most:
        raise ModelLoadError(f"its files have {size:,} bytes; one model may have {most:,} (MAX_MODEL_BYTES)")


def _from_hub(place: OnHub, part: Path, most: int) -> None:
    """On a thread. What came before is gone on with."""
    from huggingface_hub import snapshot_download  # loaded where it is needed: it takes a while
    from huggingface_hub.errors import DryRunError, HfHubHTTPError, LocalEntryNotFoundError

    wanted: dict[str, Any] = {
        "repo_id": place.repository,
        "revision": place.revision or None,
        "local_dir": part,
        "allow_patterns": [f"*{suffix}" for suffix in TOLD],
        "etag_timeout": HUB_ETAG_SECONDS,
    }
    try:
        files: Any = snapshot_download(**wanted, dry_run=True)
        _check_size(sum(int(file.file_size or 0) for file in files), most)
        if not any(str(file.filename).endswith(".safetensors") for file in files):
            raise ModelLoadError(f"{place.repository}: the hub has no .safetensors file of it")
        snapshot_download(**wanted)
    except (DryRunError, HfHubHTTPError) as error:
        answer = error if isinstance(error, HfHubHTTPError) else error.__cause__
        status = getattr(getattr(answer, "response", None), "status_code", None)
        if status in (401, 403, 404):
            raise ModelLoadError(f"{place.repository}: the hub has no such model, or not for us ({status})") from None
        why = "cannot be reached" if status is None else f"erred ({status})"
        raise OSError(f"{place.repository}: the hub {why}") from None
    except LocalEntryNotFoundError:
        raise OSError(f"{place.repository}: the hub cannot be reached") from None
    shutil.rmtree(part / ".cache", ignore_errors=True)  # the library's notes
