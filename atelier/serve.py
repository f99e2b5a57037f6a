"""`atelier serve`: the server, from its settings to its last word. stdout gets one line a listening address, stderr the logs."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from pathlib import Path
from typing import Any, Protocol

import structlog

from atelier.running import say
from atelier.starting import Service, Starting
from atelier.supervise import plans_of, supervise
from config import SettingsError
from config.processes import BadPlan
from factory.logs import set_up_logging
from factory.node_settings import node_settings
from factory.parent import die_with_parent
from factory.service import make_service
from server.futures import as_deferred

log = structlog.get_logger("atelier")


COLLECTED_AFTER = (5000, 20, 20)  # new objects; collections of the youngest, and of the next, before an older one
SWITCH_INTERVAL = 0.0005  # seconds; by default one thread that computes keeps the reactor waiting for 5 ms


def serve(processes: int | None = None, plan: Path | None = None) -> int:
    """Run until SIGINT or SIGTERM, in one process or as the settings or these say.

    The exit status: 2 for a setting that does not fit, 1 where it cannot start.
    """
    from twisted.internet import reactor as installed

    reactor: Any = installed
    try:
        found = node_settings() if processes is None else node_settings(processes=processes)
        settings = found.settings
        plans = () if settings.supervisor else plans_of(settings, plan)
        flush_logs = set_up_logging(settings)
    except (SettingsError, BadPlan) as error:
        say(str(error))
        return 2
    found.tell()
    if plans:
        return supervise(found, plans, reactor, flush_logs)
    try:
        if settings.supervisor:
            die_with_parent(settings.supervisor)
        sys.setswitchinterval(SWITCH_INTERVAL)
        service = make_service(settings, reactor, on_ready=settle_memory, settings_source=found.source)
        serving = Serving(reactor, service, found.started)
        reactor.callLater(0, serving.begin)  # once the loop runs: callWhenRunning is just before
        reactor.addSystemEventTrigger("before", "shutdown", serving.end)
        reactor.run(installSignalHandlers=False)  # Twisted's own would raise on a second Ctrl-C
    except SettingsError as error:
        say(str(error))
        return 2
    finally:
        flush_logs()
    if service.threads_left:  # Python would wait for them without limit
        os._exit(serving.status)
    return serving.status


def settle_memory() -> None:
    """Keep what is there now, a model's libraries above all, out of every later garbage collection: one of them took 100 ms.

    Collections are rarer, too: a job leaves little behind that refers to itself, and looking for it at every 700 new objects took
    0.03 ms a job of the reactor's time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECTED_AFTER)


class Abandonable(Service, Protocol):
    """A service whose start need not be waited for."""

    def abandon(self) -> None:
        """It is to stop, though it may not have started yet."""
        ...


class Serving(Starting[Abandonable]):
    """One run of a service on the reactor."""

    def begin(self) -> None:
        """Heed signals, and start the service."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._signalled, number)
        self._starting = asyncio.ensure_future(self._start())

    def end(self) -> Any:
        """Before the reactor stops: a Deferred that fires when the service has."""
        return as_deferred(self._end())

    def _signalled(self, number: signal.Signals) -> None:
        if self._stopping:
            say("stopping already; running jobs are being finished")
            return
        self._stopping = True
        jobs = self._service.live_jobs
        say(f"{number.name}: stopping" + (f", finishing {jobs} {'job' if jobs == 1 else 'jobs'}" if jobs else ""))
        self._reactor.stop()

    async def _end(self) -> None:
        if self._starting is None:
            return
        if not self._starting.done():
            self._service.abandon()
        if not await self._starting:
            return
        try:
            await self._service.stop()
        except Exception:
            log.exception("server.broken")
            self.status = 1
