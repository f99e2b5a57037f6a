"""The data folder: one server's at a time, and the name that a node keeps from life to life."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

_NAME = "node"


class FolderInUse(Exception):
    """Another server that runs has this folder."""


class DataFolder:
    """`path`, made if it is not there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._handle: int | None = None
        self._node = ""

    @property
    def node(self) -> str:
        """Who we are to the database: random, and written into the folder at its first use."""
        assert self._node, "the folder is not held"
        return self._node

    def hold(self) -> None:
        """Take it until `release`, or until this process ends in any way. Raises FolderInUse, OSError."""
        self._path.mkdir(parents=True, exist_ok=True)
        handle = os.open(self._path / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._node = _named(handle)
        except BlockingIOError:
            os.close(handle)
            raise FolderInUse(f"{self._path} is in use by another server") from None
        except BaseException:
            os.close(handle)
            raise
        self._handle = handle

    def release(self) -> None:
        """Let others have it."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def _named(handle: int) -> str:
    name = os.read(handle, 64).decode("ascii", "replace").strip()
    if len(name) != 32:  # none yet, or cut short by a crash
        name = secrets.token_hex(16)
        os.pwrite(handle, f"{name}\n".encode(), 0)
        os.fsync(handle)
    return name
