"""`atelier serve` as a user starts it: a process of its own, on a free port."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
LISTEN = {"ATELIER_TCP_LISTEN": "tcp:0:interface=127.0.0.1", "ATELIER_HTTP_LISTEN": "off"}


class Served:
    """A running server. `address` is where it listens, `listening_after` how many seconds after its start that was said."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.address = ("", 0)
        self.listening_after = 0.0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    async def ended(self) -> tuple[int, str]:
        """Its exit status and what it logged."""
        _, logged = await self.process.communicate()
        assert self.process.returncode is not None
        return self.process.returncode, logged.decode()


ATELIER = ("atelier", "serve")


async def start(folder: Path, *, module: Sequence[str] = ATELIER, **environment: str) -> asyncio.subprocess.Process:
    """Start the process in an empty folder, with these settings alone."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", *module,
        cwd=folder, env={**clean, "PYTHONPATH": str(ROOT), "ATELIER_DATA_DIR": str(folder / "data"), **environment},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


@asynccontextmanager
async def serving(folder: Path, *, module: Sequence[str] = ATELIER, **environment: str) -> AsyncIterator[Served]:
    """A server that listens; killed at the end if it still runs."""
    began = time.monotonic()
    process = await start(folder, module=module, **{**LISTEN, **environment})
    served = Served(process)
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        served.listening_after = time.monotonic() - began
        kind, host, port = line.strip().rpartition(" ")[2].split(":")
        assert kind == "tcp", line
        served.address = (host, int(port))
        yield served
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
