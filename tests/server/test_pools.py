"""Threads for work that would hold up the reactor."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from server.interfaces import Pool
from server.pools import InlinePool, ThreadedPool


@pytest.fixture(params=["threads", "inline"])
def pool(request: pytest.FixtureRequest, reactor: Any) -> Any:
    """Each implementation of Pool."""
    if request.param == "inline":
        yield InlinePool()
        return
    threads = ThreadedPool("finishing", 2)
    threads.start()
    yield threads
    threads.stop()


def started(pool: ThreadedPool) -> bool:
    """Whether it takes work."""
    return pool.started


def add(one: int, other: int = 0) -> int:
    """Something to do."""
    return one + other


async def test_work_gives_its_result_or_its_error(pool: Pool) -> None:
    """By whichever pool it is done."""
    assert await pool.run(add, 1, other=2) == 3
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0)


async def test_threads_are_named_and_not_the_reactor_s(reactor: Any) -> None:
    """A stack dump tells what a thread is for; stopping waits for what was taken."""
    threads = ThreadedPool("finishing", 1)
    assert not started(threads)
    threads.start()
    assert started(threads)
    name = await threads.run(lambda: threading.current_thread().name)
    assert "finishing" in name
    assert name != threading.current_thread().name
    threads.stop()
    assert not started(threads)
