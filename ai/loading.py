"""What takes long and must not hold up the step loop (reading a model, an adapter), done on another thread.

Work runs on the device's one loading thread, a piece after the other, under the same thread-local torch state as the
loop's. What it returned or raised comes back as a letter: `done` or `failed` is called on the loop's thread, between two
steps. Imports no torch itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ai.types import EngineSettings

T = TypeVar("T")

Letter = Callable[[], None]
"""What another thread wants of the loop: called on the loop's thread, between two steps."""

Aside = Callable[[Callable[[], None]], None]
"""Runs a function on the loading thread, in the order of the calls, and returns at once."""


def at_once(work: Callable[[], None]) -> None:
    """An `Aside` without a thread: the caller waits. For tests, and for tools that have nothing else to do."""
    work()


def _raised(error: Exception) -> None:
    raise error


class Loader:
    """Hands work to the loading thread and its outcome to the loop. Its methods are called on the loop's thread."""

    def __init__(self, settings: EngineSettings, aside: Aside, post: Callable[[Letter], None]) -> None:
        self._settings = settings
        self._aside = aside
        self._post = post

    def load(self, work: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        """Do `work` aside, then call exactly one of `done` and `failed` on the loop's thread."""

        def run() -> None:
            self._post(self._outcome(work, done, failed))

        self._aside(run)

    def run(self, work: Callable[[], None]) -> None:
        """Do `work`, which tells of its outcome itself, aside."""
        self.load(work, lambda _: None, _raised)

    def _outcome(self, work: Callable[[], T], done: Callable[[T], None], failed: Callable[[Exception], None]) -> Letter:
        from ai.device import working_on  # torch takes seconds to import, and this is not the loop's thread

        try:
            with working_on(self._settings):
                result = work()
        except Exception as error:
            failure = error
            return lambda: failed(failure)
        return lambda: done(result)
