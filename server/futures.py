"""Where Twisted's Deferreds and asyncio's coroutines meet. Our own coroutines are asyncio's.

Never await a bare Deferred in a coroutine: a pending one raises "Task got bad yield". Cancelling the future that
`as_future` gives cancels the Deferred.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import structlog
from twisted.internet.defer import Deferred

log = structlog.get_logger("atelier")
T = TypeVar("T")


def as_future(deferred: Deferred[T]) -> asyncio.Future[T]:
    """A Deferred as something to await; call it in a running loop."""
    return deferred.asFuture(asyncio.get_running_loop())


def as_deferred(coroutine: Coroutine[Any, Any, T]) -> Deferred[T]:
    """Start a coroutine, and give Twisted its Deferred."""
    return Deferred.fromFuture(asyncio.ensure_future(coroutine))


class Tasks:
    """Coroutines that run on their own. The loop itself keeps no hold on a task; this does, and logs what it raised."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def start(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Let it run."""
        task = asyncio.ensure_future(coroutine)
        self._running.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("task.broken", exc_info=task.exception())
