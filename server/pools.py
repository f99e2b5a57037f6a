"""Named threads for work that would hold up the reactor (signing, encoding, disk)."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class _Work:
    """Something to do, who waits for it, and what came of it."""

    __slots__ = ("done", "error", "result", "work")

    def __init__(self, work: Callable[[], Any], done: asyncio.Future[Any]) -> None:
        self.work = work
        self.done = done
        self.result: Any = None
        self.error: BaseException | None = None

    def do(self) -> None:
        """On a thread, unless nobody waits any more."""
        if self.done.cancelled():
            return
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = RuntimeError("StopIteration") if isinstance(error, StopIteration) else error

    def tell(self) -> None:
        """On the loop's thread."""
        if self.done.done():
            return
        if self.error is not None:
            self.done.set_exception(self.error)
        else:
            self.done.set_result(self.result)


class ThreadedPool:
    """A `Pool` of at most `threads` threads called `name`. Must be started, and stopped when nothing uses it any more.

    A job is handed to threads several times, so that the handing over counts: what several threads have done is told the loop
    by one call. All who use a pool do so in one loop.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._most = threads
        self._threads: list[threading.Thread] = []
        self._todo: SimpleQueue[_Work | None] = SimpleQueue()
        self._undone = 0  # of what was asked for
        self._done: deque[_Work] = deque()
        self._told = False  # that something is done
        self._stopped = False
        self._lock = threading.Lock()  # over what is still taken
        self.started = False  # whether it takes work

    def start(self) -> None:
        """Take work from now on."""
        self.started = True

    def stop(self) -> None:
        """Wait for what was taken, and end the threads."""
        with self._lock:
            self.started, self._stopped = False, True
            for _ in self._threads:
                self._todo.put(None)
        for thread in self._threads:
            thread.join()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` on one of the threads. Raises RuntimeError when they have ended."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()
        with self._lock:
            if self._stopped:
                raise RuntimeError(f"the threads {self._name!r} have ended")
            if self._undone >= len(self._threads) < self._most:
                name = f"{self._name}_{len(self._threads)}"
                thread = threading.Thread(target=self._work, args=(loop,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()
            self._undone += 1
            self._todo.put(_Work(partial(work, *args, **kwargs), done))
        return await done

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        """A thread's life."""
        while (work := self._todo.get()) is not None:
            work.do()
            self._done.append(work)
            del work  # it may hold pictures
            if not self._told:
                self._told = True
                with suppress(RuntimeError):  # the loop has ended: nobody waits
                    loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._told = False  # from here on whoever has done something says so again
        while self._done:
            self._undone -= 1
            self._done.popleft().tell()


class InlinePool:
    """A `Pool` that works at once on the caller's thread: for tests, where order must be certain."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` now."""
        return work(*args, **kwargs)
