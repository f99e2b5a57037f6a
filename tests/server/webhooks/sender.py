"""A sender for tests: it makes no calls, notes what it should have made, and gives the outcome that a test wants."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from server.webhook import Care, OutboxCall
from server.webhooks.sending import Answered, Outcome


class FakeSender:
    """Answers 200 unless told otherwise: `outcomes` by target, one after the other, the last for ever; `held` targets hang."""

    def __init__(self) -> None:
        self.sent: list[OutboxCall] = []
        self.outcomes: dict[str, Sequence[Outcome]] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.error: Exception | None = None
        self.under_way: dict[str, int] = {}
        self.most: dict[str, int] = {}

    def hold(self, target: str) -> asyncio.Event:
        """Calls to it wait until the event is set."""
        return self.held.setdefault(target, asyncio.Event())

    @property
    def names(self) -> list[str]:
        """What was sent, in order."""
        return [call.name for call in self.sent]

    async def send(self, call: OutboxCall, *, news: bool) -> Outcome:
        """What became of it. Never two calls of one job at once."""
        assert news == (call.care is Care.FLEETING)
        self.sent.append(call)
        here = self.under_way[call.target] = self.under_way.get(call.target, 0) + 1
        self.most[call.target] = max(self.most.get(call.target, 0), here)
        try:
            if call.target in self.held:
                await self.held[call.target].wait()
            if self.error is not None:
                raise self.error
            return self._outcome(call.target)
        finally:
            self.under_way[call.target] -= 1

    def _outcome(self, target: str) -> Outcome:
        first, *rest = self.outcomes.get(target, [Answered(200)])
        if rest:
            self.outcomes[target] = rest
        return first
