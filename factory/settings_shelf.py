"""The folder of settings that this node hands out to others: looked at when somebody asks, read again when it was changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import structlog

from config import Settings, SettingsError
from config.fields import PREFIX
from config.layers import BadLayers, NoSuchPath, Tree, look, read_tree
from factory.joining import joined
from server.errors import Refusal
from server.interfaces import Pool
from server.pools import ThreadedPool

log = structlog.get_logger("atelier.settings")

SHOWN = 20  # names that a refusal tells of what there is


class FolderShelf:
    """Where somebody broke the folder, what it said last is handed out, and `problem` says what is wrong."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._folder = folder
        self._pool = pool
        self._state: object = None
        self._tree = Tree()
        self.problem = ""

    async def open(self) -> None:
        """Read it for the first time. Raises SettingsError."""
        try:
            self._state, self._tree = await self._pool.run(self._read)
        except (BadLayers, OSError) as error:
            lines = str(error).splitlines()
            raise SettingsError("\n".join(f"{PREFIX}SETTINGS_DIR: {line}" for line in lines)) from None

    async def at(self, path: str) -> Any:
        """What stands at a path. Raises Refusal."""
        await self._look()
        try:
            return self._tree.at(path)
        except NoSuchPath as missing:
            known = ", ".join(missing.known[:SHOWN]) + (", …" if len(missing.known) > SHOWN else "")
            raise Refusal.invalid("configPath", f"a path that there is: one of {known or 'none'}", path) from None

    async def _look(self) -> None:
        try:
            state = await self._pool.run(look, self._folder)
        except (BadLayers, OSError) as error:
            self._broken(None, str(error))
            return
        if state == self._state:
            return
        try:
            self._state, self._tree = await self._pool.run(self._read)
        except (BadLayers, OSError) as error:
            self._broken(state, str(error))  # one try for each change
            return
        self.problem = ""
        log.info("settings.read", folder=str(self._folder))

    def _read(self) -> tuple[object, Tree]:
        return look(self._folder), read_tree(self._folder)

    def _broken(self, state: object, problem: str) -> None:
        if problem != self.problem:
            log.error("settings.broken", folder=str(self._folder), problem=problem)
        self._state, self.problem = state, problem


class HandingOut:
    """The folder's life in a server; `shelf` is None where there is none to hand out."""

    def __init__(self, settings: Settings, reactor: Any, source: str) -> None:
        self._reactor = reactor
        if settings.settings_dir and (settings.role == "worker" or not settings.http_endpoint()):
            raise SettingsError(f"{PREFIX}SETTINGS_DIR: needs the HTTP door, which is off here")
        self._source = source
        self._pool = ThreadedPool("settings", 1)
        self.shelf = FolderShelf(settings.settings_dir, self._pool) if settings.settings_dir else None

    async def open(self) -> None:
        """Read it. Raises SettingsError."""
        if self.shelf is not None:
            self._pool.start()
            await self.shelf.open()

    def told(self) -> str:
        """For the status: where this node's own settings come from, and whether what it hands out is as the folder has it."""
        broken = self.shelf is not None and self.shelf.problem
        return "; ".join(
            filter(None, [self._source, "hands out what the folder last said: it is broken" if broken else ""])
        )

    async def close(self) -> bool:
        """Whether the thread ended."""
        return await joined(self._reactor, self._pool.stop)
