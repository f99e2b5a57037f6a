"""Named threads for work that would hold up the reactor (signing, encoding, disk)."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from server.futures import as_future

P = ParamSpec("P")
T = TypeVar("T")


class ThreadedPool:
    """A `Pool` of at most `threads` threads called `name`. Must be started, and stopped when nothing uses it any more."""

    def __init__(self, reactor: IReactorFromThreads, name: str, threads: int) -> None:
        self._reactor = reactor
        self._threads = ThreadPool(minthreads=0, maxthreads=threads, name=name)

    def start(self) -> None:
        """Take work from now on."""
        self._threads.start()

    def stop(self) -> None:
        """Wait for what was taken, and end the threads."""
        self._threads.stop()

    @property
    def started(self) -> bool:
        """Whether it takes work."""
        return bool(self._threads.started)

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` on one of the threads."""
        return await as_future(deferToThreadPool(self._reactor, self._threads, work, *args, **kwargs))


class InlinePool:
    """A `Pool` that works at once on the caller's thread: for tests, where order must be certain."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` now."""
        return work(*args, **kwargs)
