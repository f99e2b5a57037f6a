"""A process of `atelier serve --processes`: started by the reactor, with the sockets that it listens on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any

from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from config.fields import PREFIX
from config.processes import ProcessPlan

READY = (b"listening on ", b"working: ")  # how the first line of its stdout begins once it is up
FIRST_SOCKET = 3  # file descriptors: after stdin, stdout, stderr
LONGEST_LINE = 1 << 16  # bytes of a log line; a longer one is passed on in pieces

SERVE = [sys.executable, "-m", "atelier", "serve"]


class Child(ProcessProtocol):
    """A `factory.supervisor.Life`. What it logs is passed on by whole lines."""

    def __init__(self, tell: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        self.up: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._tell = tell
        self._said = b""
        self._logged = b""

    def end(self) -> None:
        """SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def outReceived(self, data: bytes) -> None:  # noqa: N802
        """Its first line says that it is up; the others are told by whoever started it."""
        if not self.up.done():
            self._said = (self._said + data)[:LONGEST_LINE]
            if self._said.startswith(READY) and b"\n" in self._said:
                self.up.set_result(None)

    def errReceived(self, data: bytes) -> None:  # noqa: N802
        """Its log."""
        lines, newline, rest = (self._logged + data).rpartition(b"\n")
        if len(rest) > LONGEST_LINE:
            lines, newline, rest = lines + newline + rest, b"\n", b""
        self._logged = rest
        if newline:
            self._tell(lines + newline)

    def processEnded(self, reason: Failure) -> None:  # noqa: N802
        """It is gone, and has said all."""
        if self._logged:
            self._tell(self._logged + b"\n")
        status: Any = reason.value
        if isinstance(status, ProcessDone):
            how = "ended by itself"
        elif status.signal is not None:
            how = f"was ended by {signal.Signals(status.signal).name}"
        else:
            how = f"ended with status {status.exitCode}"
        self.ended.set_result(how)

    def _signal(self, number: signal.Signals) -> None:
        transport: Any = self.transport
        if not self.ended.done() and transport.pid is not None:
            transport.signalProcess(number)


class Launcher:
    """A `factory.supervisor.Launch`. `sockets` are by the doors' names; `environment` says what is the same for all."""

    def __init__(
        self,
        reactor: Any,
        sockets: Mapping[str, int],
        environment: Callable[[str], Mapping[str, str]],
        tell: Callable[[bytes], None],
    ) -> None:
        self._reactor = reactor
        self._sockets = sockets
        self._environment = environment
        self._tell = tell

    def __call__(self, plan: ProcessPlan, name: str) -> Child:
        """Start it. Raises OSError."""
        doors = self._sockets if plan.doors else {}
        places = {door: FIRST_SOCKET + at for at, door in enumerate(doors)}
        environment = {
            **os.environ,
            **self._environment(name),
            **plan.environment,
            f"{PREFIX}PROCESSES": "1",
            f"{PREFIX}PROCESS": name,
            f"{PREFIX}SUPERVISOR": str(os.getpid()),
            f"{PREFIX}SOCKETS": ",".join(f"{door}={place}" for door, place in places.items()),
        }
        child = Child(self._tell)
        nothing = os.open(os.devnull, os.O_RDONLY)
        try:
            self._reactor.spawnProcess(
                child,
                SERVE[0],
                SERVE,
                env=environment,
                childFDs={0: nothing, 1: "r", 2: "r", **{places[door]: number for door, number in doors.items()}},
            )
        finally:
            os.close(nothing)
        return child
