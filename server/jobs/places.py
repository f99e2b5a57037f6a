"""How many jobs may be pending, in all and for one owner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from server.errors import Code, Refusal


class Places:
    """Places for jobs that have not ended. `retry_after` estimates, in seconds, when one will be free."""

    def __init__(self, total: int, per_owner: int, retry_after: Callable[[], float]) -> None:
        self._total = total
        self._per_owner = per_owner
        self._retry_after = retry_after
        self._taken: Counter[str] = Counter()

    def take(self, owner: str) -> None:
        """Take a place for one more job of `owner`. Raises Refusal (RESOURCE_EXHAUSTED)."""
        if self._taken[owner] >= self._per_owner:
            raise self._full(f"{self._per_owner} pending jobs for one owner")
        if self._taken.total() >= self._total:
            raise self._full(f"{self._total} pending jobs in all")
        self._taken[owner] += 1

    def hold(self, owner: str) -> None:
        """Take a place for a job that was accepted before: it has its right to one, whatever the limits are now."""
        self._taken[owner] += 1

    def release(self, owner: str) -> None:
        """Give a place back."""
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]

    @property
    def taken(self) -> int:
        """Jobs that have a place."""
        return self._taken.total()

    def _full(self, limit: str) -> Refusal:
        seconds = self._retry_after()
        text = f"the limit of {limit} is reached; try again in {seconds:.0f} s"
        return Refusal(Code.RESOURCE_EXHAUSTED, text, limit=limit, retry_after_seconds=seconds)
