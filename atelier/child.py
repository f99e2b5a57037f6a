"""A server as a child process: started, waited for, stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from atelier.running import say
from bot.errors import ClientError
from config.settings import PREFIX, Settings, environment_names

ROOT = Path(__file__).resolve().parent.parent
START_TIME = 60.0  # seconds until it listens; it reads no weights before that, only code from a possibly cold disk
STOP_TIME = 40.0  # seconds; its own drain time-out is 30
TAIL_LINES = 20  # of its stderr, shown when it dies: a traceback's end
LONGEST_LINE = 1 << 20  # bytes; beyond, reading it would stop
LISTENING = "listening on "


class ServerDied(ClientError):
    """The child ended, or did not listen in time."""


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` without any setting of the server, by whichever of its names."""
    settings = {name for field in Settings.model_fields for name in environment_names(field)}
    return {name: value for name, value in environment.items() if name not in settings and not name.startswith(PREFIX)}


class ChildServer:
    """`python -m atelier serve` with the built-in settings but for `settings` (by their names in the environment), on a free
    port of this machine, its data in `folder`.

    It runs in `folder`, so that no .env is found, and in a session of its own, so that a terminal's Ctrl-C reaches us alone.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._folder = folder
        self._settings = settings or {}
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._reading: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self.address = ""  # as it said, once it listens

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()
        if error is None and self._process is not None and self._process.returncode:
            say(f"the server ended with status {self._process.returncode}:\n{self._told()}")

    async def _start(self) -> None:
        environment = clean_environment(os.environ)
        paths = [str(ROOT), *filter(None, [environment.get("PYTHONPATH")])]
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        environment.update(self._settings)
        environment[f"{PREFIX}TCP_LISTEN"] = "tcp:0:interface=127.0.0.1"
        environment[f"{PREFIX}HTTP_LISTEN"] = "off"
        environment[f"{PREFIX}DATA_DIR"] = str(self._folder / "data")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "atelier",
            "serve",
            cwd=self._folder,
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            limit=LONGEST_LINE,
        )
        self._reading = asyncio.ensure_future(self._read_stderr(self._process))
        self.address = await self._listening(self._process)

    async def _listening(self, process: asyncio.subprocess.Process) -> str:
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), START_TIME)
        except TimeoutError:
            raise ServerDied(f"the server did not listen within {START_TIME:g} s\n{self._told()}") from None
        text = line.decode(errors="replace").strip()
        if not text.startswith(LISTENING):
            await process.wait()
            if self._reading is not None:
                await self._reading
            raise ServerDied(f"the server ended with status {process.returncode}:\n{self._told()}")
        return text.removeprefix(LISTENING)

    async def _read_stderr(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            self._tail.append(line.decode(errors="replace").rstrip())

    def _told(self) -> str:
        return "\n".join(self._tail) or "(it said nothing)"

    async def _stop(self) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIME)
            except (TimeoutError, asyncio.CancelledError):  # cancelled: Ctrl-C again
                process.kill()
                await process.wait()
        if self._reading is not None:
            await self._reading
