"""What lies at a place now."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, Protocol, cast

from server.adapter_names import StoredFile, StoredFolders
from server.errors import Code, JobFailure
from server.interfaces import ObjectSource, StoredObject

DIFFUSERS_FILE = "pytorch_lora_weights.safetensors"
PEFT_FILE = "adapter_model.safetensors"
PEFT_CONFIG = "adapter_config.json"
SUB_FOLDERS = ("unet", "text_encoder", "text_encoder_2")  # as PEFT saves an adapter of several networks
BACKEND_FILE = "lora_weights.safetensors"
_WEIGHTS = (BACKEND_FILE, DIFFUSERS_FILE, PEFT_FILE)  # in this order
_PICKLES = ("lora_weights.pt", "lora_weights.bin", "pytorch_lora_weights.bin", "adapter_model.bin")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._ -]{0,99}")


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One file of an adapter; its `name` may be in one of SUB_FOLDERS.

    `size` is None where it is not known before; `pieces` gives the bytes from an offset on, and raises ObjectChanged where they
    are not the `etag`'s any more, JobFailure for what stays so, else OSError.
    """

    name: str
    size: int | None
    etag: str
    pieces: Callable[[int], AsyncIterator[bytes]]


class Origin(Protocol):
    """A place."""

    async def look(self) -> Sequence[RemoteFile]:
        """The files that are there now. Raises JobFailure for what stays so, else OSError."""
        ...


def version_of(files: Sequence[RemoteFile]) -> str:
    """What tells these contents from others."""
    told = "\n".join(f"{file.name} {file.size} {file.etag}" for file in files)
    return hashlib.sha256(told.encode()).hexdigest()[:32]


def file_name(path: str, suffix: str) -> str:
    """The last part of a path, where it is a name that any file system takes."""
    name = PurePosixPath(path).name
    return name if name.endswith(suffix) and _PLAIN_NAME.fullmatch(name) else f"adapter{suffix}"


class StorageOrigin:
    """A file, or the first of some folders that has one, in the storage."""

    def __init__(self, storage: ObjectSource, place: StoredFile | StoredFolders) -> None:
        self._storage = storage
        self._place = place

    async def look(self) -> Sequence[RemoteFile]:
        """The files that are there now."""
        problem: BaseException | None = None
        for names in self._candidates():
            found, refused = await self._find(names)
            for name in names:
                if name in found and not name.endswith(PEFT_CONFIG):
                    config = f"{PurePosixPath(name).parent}/{PEFT_CONFIG}"
                    beside = [config] if name.endswith(f"/{PEFT_FILE}") and config in found else []
                    return [self._file(each, found[each]) for each in (name, *beside)]
            problem = problem or refused
        parted, refused = await self._parted()
        if parted:
            return parted
        if problem := problem or refused:
            raise problem
        await self._refuse_pickles()
        await self._confirm_missing()
        raise OSError("something is there now that was not a moment ago")

    async def _parted(self) -> tuple[list[RemoteFile], BaseException | None]:
        """Of the first folder with sub-folders of PEFT's, what is in all of them."""
        refusals: list[BaseException] = []
        for folder in self._place.keys if isinstance(self._place, StoredFolders) else ():
            inside = [f"{part}/{name}" for part in SUB_FOLDERS for name in (PEFT_FILE, PEFT_CONFIG)]
            found, refused = await self._find([f"{folder}/{name}" for name in inside])
            parts = [part for part in SUB_FOLDERS if f"{folder}/{part}/{PEFT_FILE}" in found]
            if parts:
                there = [name for name in inside if name.partition("/")[0] in parts and f"{folder}/{name}" in found]
                return [self._file(f"{folder}/{name}", found[f"{folder}/{name}"], name) for name in there], None
            refusals += [refused] if refused is not None else []
        return [], refusals[0] if refusals else None

    def _candidates(self) -> list[list[str]]:
        """Keys to look for, folder by folder."""
        if isinstance(self._place, StoredFile):
            return [[self._place.key]]
        return [[f"{folder}/{name}" for name in (*_WEIGHTS, PEFT_CONFIG)] for folder in self._place.keys]

    async def _find(self, keys: Sequence[str]) -> tuple[dict[str, StoredObject], BaseException | None]:
        """Those of the keys that are there, and why others cannot be seen: without the right to list a bucket, S3 refuses what is
        not there."""
        answers = await asyncio.gather(*map(self._storage.stat, keys), return_exceptions=True)
        found = {key: answer for key, answer in zip(keys, answers, strict=True) if isinstance(answer, StoredObject)}
        problems = [one for one in answers if isinstance(one, BaseException) and not isinstance(one, FileNotFoundError)]
        return found, problems[0] if problems else None

    async def _refuse_pickles(self) -> None:
        if isinstance(self._place, StoredFolders):
            pickled, _ = await self._find([f"{folder}/{name}" for folder in self._place.keys for name in _PICKLES])
            for key in pickled:
                raise JobFailure(
                    Code.ADAPTER_INVALID, f"{key} is a pickle, which can run code; only .safetensors is read"
                )

    async def _confirm_missing(self) -> None:
        """Ask once more in a way that tells a missing object from a missing bucket, which asking for its size does not."""
        key = self._candidates()[0][0]
        try:
            async with aclosing(cast(Any, self._storage.pieces(key, 0, ""))) as pieces:
                await anext(pieces, b"")
        except FileNotFoundError:
            place = self._place
            what = key if isinstance(place, StoredFile) else " and ".join(f"{folder}/" for folder in place.keys)
            raise JobFailure(Code.ADAPTER_NOT_FOUND, f"the storage has no adapter at {what}") from None

    def _file(self, key: str, stat: StoredObject, name: str = "") -> RemoteFile:
        pieces = partial(self._storage.pieces, key, etag=stat.etag)
        name = name or file_name(key, PurePosixPath(key).suffix)
        return RemoteFile(name, stat.size, stat.etag, cast(Any, pieces))
