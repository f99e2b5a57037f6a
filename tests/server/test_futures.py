"""Where Deferreds and coroutines meet."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.python.failure import Failure

from server.futures import Tasks, as_deferred, as_future
from tests.server.fakes import settle


async def test_a_pending_deferred_can_be_awaited() -> None:
    """Its result, and its error, come where a coroutine waits for them."""
    one: Deferred[int] = Deferred()
    other: Deferred[int] = Deferred()
    futures = as_future(one), as_future(other)
    one.callback(3)
    other.errback(ValueError("no"))
    assert await futures[0] == 3
    with pytest.raises(ValueError, match="no"):
        await futures[1]
    assert await as_future(succeed(4)) == 4


async def test_cancelling_the_future_cancels_the_deferred() -> None:
    """So whoever must not be cancelled has to be shielded."""
    failures: list[type[BaseException] | None] = []
    deferred: Deferred[int] = Deferred()

    def canceled(failure: Failure) -> int:
        failures.append(failure.type)
        return 0

    deferred.addErrback(canceled)
    as_future(deferred).cancel()
    await settle()
    assert failures == [CancelledError]


async def test_a_coroutine_becomes_a_deferred() -> None:
    """It starts at once, and fires with its result."""
    results: list[str] = []

    async def work() -> str:
        await asyncio.sleep(0)
        return "done"

    as_deferred(work()).addCallback(results.append)
    await settle()
    assert results == ["done"]


async def test_tasks_hold_what_runs_and_log_what_it_raised() -> None:
    """An error is logged once with its exception, and nothing else notices."""

    async def fail() -> None:
        raise ValueError("broken inside")

    tasks = Tasks()
    with capture_logs() as logs:
        tasks.start(fail())
        await settle()
    (line,) = logs
    assert line["event"] == "task.broken"
    assert str(line["exc_info"]) == "broken inside"
