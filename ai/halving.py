"""Trying a batch again in halves, so that a failure is only that of the item that fails alone. Imports torch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Sequence
from typing import Generic, TypeVar

import torch

from ai.failures import as_engine_error
from ai.types import DeviceLost, EngineError, OutOfMemory

log = logging.getLogger(__name__)

Item = TypeVar("Item", bound=Hashable)
Failures = dict[Item, EngineError]


# After this many batches at a reduced size a larger one is tried again: what was short of memory then may not be now
# (a VAE was decoding, another process had its share). The price is one failed forward pass in a hundred.
TRY_LARGER_AFTER = 100


class Halving(Generic[Item]):
    """Runs a function over a batch; what raises is run again in two halves, down to single items.

    After running out of memory it remembers the size that did fit, and makes smaller batches in the first place. What
    does not fit alone is tried again for as long as `relieve` finds something else to let go of.
    """

    def __init__(self, relieve: Callable[[], bool] = lambda: False) -> None:
        self._relieve = relieve
        self._limit: int | None = None
        self._runs_at_limit = 0

    def run(
        self, items: Sequence[Item], attempt: Callable[[Sequence[Item]], Failures[Item]], *, at_most: int | None = None
    ) -> Failures[Item]:
        """Call `attempt` over all items, at first together (or `at_most` so many); what it returned, and what it raised
        for single items. Raises DeviceLost.

        `attempt` must change nothing that outlives it before it is sure to succeed, and must not keep its tensors.
        """
        failures: Failures[Item] = {}
        limit_before = self._relaxed_limit()
        self._limit = limit_before
        size = at_most or max(1, len(items))
        pending = [list(items[start : start + size]) for start in range(0, len(items), size)]
        while pending:
            some = pending.pop(0)
            half = (len(some) + 1) // 2
            if self._limit is not None and len(some) > self._limit:
                pending[:0] = [some[: self._limit], some[self._limit :]]
                continue
            error = self._try(some, attempt, failures)
            if error is None:
                continue
            if len(some) == 1:
                if isinstance(error, OutOfMemory) and self._relieve():
                    pending.insert(0, some)
                else:
                    failures[some[0]] = error
                continue
            if isinstance(error, OutOfMemory):
                self._limit, self._runs_at_limit = half, 0
            pending[:0] = [some[:half], some[half:]]
        if any(isinstance(error, OutOfMemory) for error in failures.values()):
            self._limit = limit_before  # an item that fits nowhere says nothing about the others
        return failures

    def _relaxed_limit(self) -> int | None:
        self._runs_at_limit += 1
        if self._limit is not None and self._runs_at_limit > TRY_LARGER_AFTER:
            self._runs_at_limit = 0
            return self._limit * 2
        return self._limit

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
            if isinstance(engine_error, DeviceLost):  # nothing that is tried on it will work
                raise engine_error from None
        else:
            return None
        if isinstance(engine_error, OutOfMemory) and torch.cuda.is_available():
            torch.cuda.empty_cache()
        return engine_error
