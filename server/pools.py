"""Named threads for work that would hold up the reactor (signing, encoding, disk)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class ThreadedPool:
    """A `Pool` of at most `threads` threads called `name`. Must be started, and stopped when nothing uses it any more.

    Handing work to Python's executor and hearing of its end takes a third of what Twisted's thread pool takes, which counts where
    every job does so several times.
    """

    def __init__(self, name: str, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self.started = False  # whether it takes work

    def start(self) -> None:
        """Take work from now on."""
        self.started = True

    def stop(self) -> None:
        """Wait for what was taken, and end the threads."""
        self.started = False
        self._threads.shutdown()

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` on one of the threads."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **kwargs))


class InlinePool:
    """A `Pool` that works at once on the caller's thread: for tests, where order must be certain."""

    async def run(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work` now."""
        return work(*args, **kwargs)
