"""Who is next at a custom model's desk: the highest priority, of those whose owner's turn is longest ago, then who came first."""

from __future__ import annotations

from collections.abc import Iterator

from ai.requests import CustomRequest

OWNERS_KEPT = 1000  # whose turns are remembered; beyond it all begin anew


class Line:
    """Requests that wait, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, CustomRequest] = {}
        self._turns = 0
        self._last_turn: dict[str, int] = {}  # of each owner

    def __len__(self) -> int:
        return len(self._waiting)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._waiting

    def __iter__(self) -> Iterator[CustomRequest]:
        return iter(tuple(self._waiting.values()))

    def add(self, request: CustomRequest) -> None:
        """One more."""
        self._waiting[request.request_id] = request

    def drop(self, request_id: str) -> None:
        """One less."""
        del self._waiting[request_id]

    def next(self) -> CustomRequest:
        """Whose turn it is; it waits no more. There must be one."""
        best = max(request.priority for request in self._waiting.values())
        first = min(
            (request for request in self._waiting.values() if request.priority == best),
            key=lambda request: self._last_turn.get(request.owner, 0),
        )
        del self._waiting[first.request_id]
        self._turns += 1
        self._last_turn[first.owner] = self._turns
        if len(self._last_turn) > OWNERS_KEPT:
            self._last_turn.clear()
        return first

    def empty(self) -> list[CustomRequest]:
        """All of them, who wait no more."""
        waiting = list(self)
        self._waiting.clear()
        return waiting
