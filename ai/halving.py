"""Trying a batch again in halves, so that a failure is only that of the item that fails alone. Imports torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch

from ai.failures import as_engine_error
from ai.types import EngineError, OutOfMemory

log = logging.getLogger(__name__)

Item = TypeVar("Item", bound=Hashable)
Failures = dict[Item, EngineError]


class Halving(Generic[Item]):
    """Runs a function over a batch; what raises is run again in two halves, down to single items.

    After running out of memory it remembers the size that was too large, and from then on makes smaller batches in
    the first place. The memory ends with the object's life (in the engine: when nothing of the group is left).
    """

    def __init__(self) -> None:
        self._limit: int | None = None

    def run(self, items: Sequence[Item], attempt: Callable[[Sequence[Item]], Failures[Item]]) -> Failures[Item]:
        """Call `attempt` over all items, at first together; what it returns and what it raised for single items.

        `attempt` must change nothing that outlives it before it is sure to succeed, and must not keep its tensors.
        """
        failures: Failures[Item] = {}
        size = min(self._limit or len(items), len(items)) or 1
        pending = [list(items[start : start + size]) for start in range(0, len(items), size)]
        while pending:
            some = pending.pop(0)
            error = self._try(some, attempt, failures)
            if error is None:
                continue
            if len(some) == 1:
                failures[some[0]] = error
                continue
            half = (len(some) + 1) // 2
            if isinstance(error, OutOfMemory):
                self._limit = min(self._limit or half, half)
            pending[:0] = [some[:half], some[half:]]
        return failures

    def _try(
        self, some: list[Item], attempt: Callable[[Sequence[Item]], Failures[Item]], failures: Failures[Item]
    ) -> EngineError | None:
        try:
            failures.update(attempt(some))
        except Exception as error:
            log.warning("a batch of %d failed: %s", len(some), error, exc_info=len(some) == 1)
            engine_error = as_engine_error(error)
            # The traceback's frames hold the failed batch's tensors: let go of them before the halves are tried.
            error.__traceback__ = None
            engine_error.__traceback__ = None
        else:
            return None
        if isinstance(engine_error, OutOfMemory) and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return engine_error
