"""Threads for work that would hold up the reactor."""

from __future__ import annotations

import asyncio
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


async def test_threads_work_at_once_and_each_result_is_its_caller_s(reactor: Any) -> None:
    """As many as there are threads, and no more; who cancels is let go, and what had not begun for him never does."""
    threads = ThreadedPool("finishing", 2)
    threads.start()
    both, begun, go_on = threading.Barrier(2, timeout=10.0), threading.Event(), threading.Event()
    assert sorted(await asyncio.gather(threads.run(both.wait), threads.run(both.wait))) == [0, 1]

    def hold(number: int) -> int:
        begun.set()
        go_on.wait(10.0)
        return number

    held = [asyncio.ensure_future(threads.run(hold, number)) for number in range(3)]
    late: list[int] = []
    never = asyncio.ensure_future(threads.run(late.append, 1))
    await asyncio.sleep(0)
    assert begun.wait(10.0)
    held[0].cancel()
    never.cancel()
    go_on.set()
    assert await asyncio.gather(*held[1:]) == [1, 2]
    assert await asyncio.gather(*(threads.run(add, number, other=1) for number in range(100))) == list(range(1, 101))
    assert late == []
    threads.stop()


async def test_what_was_taken_is_done_before_the_threads_end(reactor: Any) -> None:
    """A stop waits for it; afterwards nothing is taken, and whoever asks hears so."""
    threads = ThreadedPool("finishing", 1)
    threads.start()
    done: list[int] = []
    waiting = [asyncio.ensure_future(threads.run(done.append, number)) for number in range(20)]
    await asyncio.sleep(0)
    threads.stop()
    assert done == list(range(20))
    await asyncio.gather(*waiting)
    with pytest.raises(RuntimeError, match="finishing"):
        await threads.run(done.append, 20)


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
