"""`atelier serve --processes N`, `--plan FILE`: several processes of the server, kept running by this one.

SIGTERM and SIGINT end them all, SIGHUP replaces them one after the other. stdout gets one line a listening address, once all are
up; stderr the logs of all.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog

from atelier.running import say
from atelier.starting import Starting
from config import Settings, SettingsError
from config.processes import ProcessPlan, equal_processes, read_plan
from factory.node_settings import NodeSettings
from factory.several import SeveralProcesses
from server.futures import Tasks

log = structlog.get_logger("atelier.supervisor")


def plans_of(settings: Settings, plan: Path | None) -> tuple[ProcessPlan, ...]:
    """The processes that there are to be; none where one process is to be all. Raises BadPlan."""
    if plan is not None:
        return read_plan(plan, settings.role)
    if settings.processes == 1:
        return ()
    devices = settings.engine_devices()
    on_cpu = all(device in ("auto", "cpu") for device in devices) and not settings.torch_threads
    threads = max(1, (os.cpu_count() or 1) // settings.processes) if on_cpu else 0
    return equal_processes(settings.processes, devices, threads)


def supervise(found: NodeSettings, plans: Sequence[ProcessPlan], reactor: Any, flush_logs: Callable[[], None]) -> int:
    """Run until a signal; the exit status: 2 for settings that do not fit, 1 where a process does not start."""
    try:
        supervising = Supervising(reactor, SeveralProcesses(found.settings, reactor, plans, pass_on), found.started)
        reactor.callLater(0, supervising.begin)  # once the loop runs: callWhenRunning is just before
        reactor.run()  # with Twisted's signal handlers, by which it learns of processes that end
    except SettingsError as error:
        say(str(error))
        return 2
    finally:
        flush_logs()
    return supervising.status


def pass_on(lines: bytes) -> None:
    """What a process logged, as it is."""
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()


class Supervising(Starting[SeveralProcesses]):
    """One run on the reactor."""

    def __init__(self, reactor: Any, service: SeveralProcesses, started: Callable[[], None] = lambda: None) -> None:
        super().__init__(reactor, service, started)
        self._tasks = Tasks()

    def begin(self) -> None:
        """Heed signals, and start."""
        # Not asyncio's: they would take the wake-up descriptor by which Twisted hears of processes that end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, frame: self._reactor.callFromThread(self._stop, number))
        signal.signal(signal.SIGHUP, lambda number, frame: self._reactor.callFromThread(self._roll))
        self._starting = asyncio.ensure_future(self._start())

    def _roll(self) -> None:
        if self._starting is not None and self._starting.done():
            self._service.roll()

    def _stop(self, number: int) -> None:
        if self._stopping:
            say("stopping already; running jobs are being finished")
            return
        self._stopping = True
        say(f"{signal.Signals(number).name}: stopping all processes")
        self._tasks.start(self._end())

    async def _end(self) -> None:
        try:
            await self._service.stop()
        except Exception:
            log.exception("server.broken")
            self.status = 1
        self._reactor.stop()
