"""From what was asked for to an exit status: a run is opened, shown, judged, written down, and its verdict said.

0    everything as promised            2    what was asked for makes no sense, or the server is not there
1    not as promised, or not written   130  stopped by Ctrl-C, and as promised so far
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from datetime import datetime
from typing import Any

import structlog
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from atelier.running import explained
from bot.asked import NotUnderstood
from bot.dashboard import Dashboard
from bot.errors import ClientError
from bot.faults import CannotFault
from bot.kinds import concurrency, failover, live, load, soak, stress
from bot.limits import TooMany
from bot.profile import ProfileError
from bot.report.record import record_of
from bot.report.writing import CannotWrite, prepare, write
from bot.run import Body, CannotRun, Options, Run
from server.errors import AtelierError, Code
from server.futures import as_deferred

PASSED, NOT_PASSED, NONSENSE, INTERRUPTED = 0, 1, 2, 130
SHOWN_IDS = 20  # of a finding, on the terminal; all are in the record

Work = Callable[[Any, asyncio.Event], Coroutine[Any, Any, int]]


async def _stress(run: Run) -> dict[str, Any]:
    from bot.profile import Poisson

    arrivals = run.options.profile.arrivals
    first = arrivals.rate if isinstance(arrivals, Poisson) else 1.0
    return await stress.Stress(run, first, run.options.seconds).search()


BODIES: dict[str, Body] = {
    "load": load.body,
    "stress": _stress,
    "soak": soak.body,
    "failover": failover.body,
    "concurrency": concurrency.body,
    "live": live.body,
}


def on_reactor(work: Work) -> int:
    """The exit status of `work`. The first Ctrl-C sets its event, the second cancels it."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    statuses: list[int] = []
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )

    def begin() -> None:
        as_deferred(_attended(reactor, work)).addCallback(statuses.append).addBoth(end)

    def end(result: Any) -> None:
        if result is not None:
            statuses.append(NOT_PASSED)
            print(result.getTraceback(), file=sys.stderr)  # noqa: T201
        reactor.stop()

    reactor.callLater(0, begin)  # once the loop runs: callWhenRunning is just before
    reactor.run(installSignalHandlers=False)
    return statuses[0]


async def _attended(reactor: Any, work: Work) -> int:
    stop = asyncio.Event()
    task = asyncio.ensure_future(work(reactor, stop))
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stop.is_set():
            task.cancel()
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED
    except (CannotRun, CannotFault, TooMany, NotUnderstood, ProfileError, AtelierError, ClientError) as error:
        tell(advised(error))
        return NONSENSE


def advised(error: Exception) -> str:
    """The error in a line, with what to change where we know it."""
    text = explained(error)
    if isinstance(error, AtelierError) and error.code is Code.TOO_MANY_CONNECTIONS:
        text += "; raise ATELIER_MAX_CONNECTIONS_PER_ADDRESS (and ATELIER_MAX_CONNECTIONS) at the server, or take fewer users"
    return text


async def execute(reactor: Any, options: Options, stop: asyncio.Event) -> int:
    """One run, from beginning to end."""
    shown: list[Dashboard] = []
    run = Run(reactor, options, stop, lambda text: shown[0].say(text))
    shown.append(Dashboard(run))
    run.check()
    if options.kind == "failover":
        failover.check(run)
    if options.kind == "live":
        live.check(run)
    prepare(options.out)
    details: dict[str, Any] = {}
    async with run.opened():
        showing = asyncio.ensure_future(shown[0].show())
        try:
            details = await BODIES[options.kind](run)
            await run.compare()
        except (ClientError, AtelierError) as error:
            if not run.gone and not run.figures.count("intended"):
                raise
            run.gone = run.gone or explained(error)
        finally:
            showing.cancel()
            await asyncio.gather(showing, return_exceptions=True)
    run.judge()
    record = record_of(run, details)
    tell_verdict(record)
    return _written(run, record)


def _written(run: Run, record: dict[str, Any]) -> int:
    name = f"{run.options.kind}-{datetime.fromtimestamp(run.epoch).strftime('%Y%m%d-%H%M%S')}"
    try:
        paths = write(run.options.out, name, record)
    except CannotWrite as error:
        tell(str(error))
        return NOT_PASSED
    for path in paths:
        print(path)  # noqa: T201  # the result
    if not record["verdict"]["passed"]:
        return NOT_PASSED
    return INTERRUPTED if record["interrupted"] else PASSED


def tell_verdict(record: dict[str, Any]) -> None:
    """What a person wants to know first, on stderr."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    verdict = record["verdict"]
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for finding in verdict["findings"]:
        mark = "[green]✓[/]" if finding["passed"] else "[red]✗[/]"
        ids = finding["ids"]
        shown = " ".join(ids[:SHOWN_IDS]) + (f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else "")
        table.add_row(mark, escape(finding["name"]), escape(f"{finding['text']} {shown}".strip()))
    console.print(table)
    for note in verdict["notes"]:
        console.print(f"[yellow]{escape(note)}[/]")
    console.print(f"[{'bold green' if verdict['passed'] else 'bold red'}]{escape(verdict['text'])}[/]")


def tell(text: str) -> None:
    """A line on stderr; stdout is for results."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201
