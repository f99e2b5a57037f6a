"""`python -m atelier` as a child process, beside which the test goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 180.0  # seconds until a command is called stuck; a demo takes ten, and ten times that beside other work


@dataclass(frozen=True, slots=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str


class Command:
    """A command under way. Its environment has none of ATELIER_'s variables but those given."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, *arguments: str, cwd: Path | None = None, **environment: str) -> Command:
        """Begin `python -m atelier *arguments`."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-W",
            "error::ResourceWarning",
            "-m",
            "atelier",
            *arguments,
            cwd=cwd or ROOT,
            env={**inherited, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def line(self) -> str:
        """The next line of its stdout."""
        assert self._process.stdout is not None
        return (await asyncio.wait_for(self._process.stdout.readline(), PATIENCE)).decode().rstrip("\n")

    async def says(self, text: str) -> None:
        """Until a line of its stderr holds `text`."""
        assert self._process.stderr is not None
        while text not in (line := (await asyncio.wait_for(self._process.stderr.readline(), PATIENCE)).decode()):
            assert line, f"it ended without saying {text!r}"

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def close_stdout(self) -> None:
        """Read no more of it."""
        transport: Any = self._process
        transport._transport.get_pipe_transport(1).close()  # asyncio has no public way

    async def ended(self) -> Ended:
        """Until it is over."""
        try:
            out, err = await asyncio.wait_for(self._process.communicate(), PATIENCE)
        except TimeoutError:
            self._process.kill()
            raise
        assert self._process.returncode is not None
        return Ended(self._process.returncode, out.decode(), err.decode())


async def run(*arguments: str, **environment: str) -> Ended:
    """A command from beginning to end."""
    return await (await Command.start(*arguments, cwd=None, **environment)).ended()
