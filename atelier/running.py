"""Runs one coroutine on the reactor, from beginning to end; Ctrl-C cancels it, so that it can clean up."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

from bot.client import Client
from bot.errors import ClientError
from server.errors import AtelierError, Code
from server.futures import as_deferred

INTERRUPTED = 130  # what a shell expects of a program ended by Ctrl-C

Work = Callable[[Any], Coroutine[Any, Any, int]]


def run(work: Work) -> int:
    """The exit status that `work(reactor)` gives; what a server refused, or a server out of reach, is told in one line."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    statuses: list[int] = []
    _quiet_logs()

    def begin() -> None:
        as_deferred(_attended(work(reactor))).addCallback(statuses.append).addBoth(end)

    def end(result: Any) -> None:
        if result is not None:
            statuses.append(1)
            print(result.getTraceback(), file=sys.stderr)
        reactor.stop()

    reactor.callLater(0, begin)  # once the loop runs: callWhenRunning is just before
    reactor.run(installSignalHandlers=False)
    return statuses[0]


async def _attended(work: Coroutine[Any, Any, int]) -> int:
    task = asyncio.ensure_future(work)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return INTERRUPTED
    except (AtelierError, ClientError) as error:
        say(explained(error))
        return 1
    except BrokenPipeError:  # `atelier … | head`: who read stdout has gone; Python would complain once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def say(text: str) -> None:
    """A line for people; stdout is for results."""
    with suppress(OSError):  # nobody reads it any more
        print(text, file=sys.stderr, flush=True)


def explained(error: Exception) -> str:
    """An error in one line: code, field, limit and message, as far as it has them."""
    if not isinstance(error, AtelierError):
        return str(error)
    parts = [f"{error.code.name}: {error.message}"]
    if error.field and error.field not in error.message:
        parts.append(f"field {error.field}")
    if error.limit and error.limit not in error.message:
        parts.append(f"limit {error.limit}")
    if error.retry_after_seconds:
        parts.append(f"try again in {error.retry_after_seconds:g} s")
    if error.code is Code.UNAUTHENTICATED:
        parts.append("give --token or set ATELIER_TOKEN")
    return "; ".join(parts)


@asynccontextmanager
async def connected(reactor: Any, server: str, token: str) -> AsyncIterator[Client]:
    """A client that is connected, and closed at the end. Raises CannotConnectError, NotWelcomeError."""
    client = Client(reactor, server, token=token, client_name="atelier", tell=_tell)
    await client.connect()
    try:
        yield client
    finally:
        await client.close()


def _tell(text: str, attempt: int) -> None:
    """The first attempt to come back, and its success; not the dozen between them."""
    if attempt <= 1:
        say(text)


def _quiet_logs() -> None:
    """The command line speaks for itself; structlog would write to stdout."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
