"""Faults on a schedule: processes of this machine are killed, ended or paused, and, where a command is given, started again.

Killed or ended is the one process that was named. A pause is for its children too, since a server of several processes
(PostgreSQL, `atelier serve --processes`) answers as long as they run.
"""

from __future__ import annotations

import os
import shlex
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from bot.profile import Fault
from bot.sampling import Processes
from bot.waiting import pause
from server.clock import Clock

_SIGNALS = {"kill": signal.SIGKILL, "terminate": signal.SIGTERM}
_GONE = "it was gone already"


class CannotFault(Exception):
    """A fault names a process that is not there, or not ours to end. The text says which."""


@dataclass(slots=True)
class Done:
    """A fault as it happened; seconds of the run. `until` is when the process was let go on, or started again."""

    at: float
    do: str
    what: str
    until: float | None = None
    note: str = ""


def check(faults: Sequence[Fault], processes: Processes) -> None:
    """Before the run begins: every name has a process that may be signalled. Raises CannotFault."""
    for fault in faults:
        if fault.what not in processes.pids:
            given = ", ".join(processes.pids) or "none"
            raise CannotFault(
                f"a fault is for {fault.what!r}: say which process that is, --pid {fault.what}=PID (given: {given})"
            )
    for name, pid in processes.pids.items():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            raise CannotFault(f"--pid {name}={pid}: there is no such process") from None
        except PermissionError:
            raise CannotFault(f"--pid {name}={pid}: this user may not signal it") from None


class Saboteur:
    """Does what is planned. `restarts` has the commands that start processes again, by name."""

    def __init__(
        self,
        faults: Sequence[Fault],
        processes: Processes,
        restarts: dict[str, str],
        clock: Clock,
        now: Callable[[], float],
    ) -> None:
        self._faults = sorted(faults, key=lambda fault: fault.at)
        self._processes = processes
        self._restarts = restarts
        self._clock = clock
        self._now = now
        self._paused: list[psutil.Process] = []
        self.done: list[Done] = []

    async def run(self, begin: float) -> None:
        """All faults in their order, counted from `begin`; cancelled, it lets go on what it has paused."""
        try:
            for fault in self._faults:
                await pause(self._clock, max(0.0, begin + fault.at - self._now()))
                await self._do(fault)
        finally:
            self._go_on()

    async def _do(self, fault: Fault) -> None:
        pid = self._processes.pids[fault.what]
        done = Done(self._now(), fault.do, fault.what)
        self.done.append(done)
        if fault.do == "pause":
            done.note = self._halt(pid)
            await pause(self._clock, fault.seconds)
            self._go_on()
            done.until = self._now()
            return
        try:
            os.kill(pid, _SIGNALS[fault.do])
        except ProcessLookupError:
            done.note = _GONE
        if fault.what in self._restarts:
            await pause(self._clock, fault.seconds)
            done.note = self._start(fault.what) or done.note
            done.until = self._now()

    def _halt(self, pid: int) -> str:
        """The process first, so that it starts no other meanwhile. Why it could not be, or ""."""
        try:
            process = psutil.Process(pid)
            process.suspend()
            self._paused.append(process)
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    child.suspend()
                    self._paused.append(child)
        except psutil.NoSuchProcess:
            return _GONE
        return ""

    def _go_on(self) -> None:
        while self._paused:
            with suppress(psutil.NoSuchProcess):  # never another process that has got its id
                self._paused.pop().resume()

    def _start(self, name: str) -> str:
        """In a session of its own: it outlives the bots, as the process did whose place it takes. Why it could not be, or ""."""
        command = shlex.split(self._restarts[name])
        nothing = [(os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0) for number in range(3)]
        try:
            pid = os.posix_spawnp(command[0], command, os.environ, file_actions=nothing, setsid=True)
        except OSError as error:
            return f"it could not be started again: {command[0]}: {error.strerror}"
        self._processes.replace(name, pid)
        return ""
