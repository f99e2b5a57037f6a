"""What follows from what became of a call. Pure: docs/webhooks.md has the table.

| | progress, start | complete, and what others are told | a backend's `failed` |
|---|---|---|---|
| 2xx | delivered | delivered | delivered |
| 404 of a backend | the job's calls end | the same | the same |
| 410 of others | the job's calls end | the same | – |
| any other answer | tried again, unless overtaken | tried again | tried again |
| not reached | tried again, unless overtaken | tried again | tried again |
| it may have arrived | dropped | tried again, under its id | a person decides |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from server.webhook import CallState, Care, Claimed, HookKind, Settlement
from server.webhooks.calls import HttpCall
from server.webhooks.sending import Answered, Forbidden, Outcome, Unsure

GATEWAY_TIMEOUTS = frozenset({504, 524})
"""Whoever stands in front of the receiver has waited for it in vain: what it made of the call is as unknown to them as to us."""


_GONE = {HookKind.BACKEND: 404, HookKind.GENERIC: 410}
"""Where nothing more is to be told of the job: the backend has no such generation, others hear no more at this address."""

_UNSURE = {Care.FLEETING: CallState.DROPPED, Care.ONCE: CallState.UNKNOWN}
"""What becomes of a call that may have arrived; anything else is made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrying:
    """Seconds: before the first retry, at most between two, and until a call is given up."""

    first: float
    longest: float
    give_up_after: float

    def delay(self, attempts: int, random: Callable[[], float]) -> float:
        """Before the next attempt: twice as long each time, less up to a half, so that many do not come back as one."""
        return float(min(self.longest, self.first * 2.0 ** min(attempts - 1, 30))) * (1.0 - random() / 2)


def settlement(
    claimed: Claimed, outcome: Outcome, *, at: float, retrying: Retrying, random: Callable[[], float]
) -> Settlement:
    """How a call stands after an attempt."""
    kind, care = HttpCall.from_json(claimed.call.payload).kind, claimed.call.care
    error = _words(outcome)
    # A backend's milestones are remembered: another job of the same generation must not tell them again.
    over = kind is HookKind.GENERIC and care is not Care.FLEETING
    if isinstance(outcome, Answered) and 200 <= outcome.status < 300:
        return Settlement(claimed, CallState.DELIVERED, forget_news=over)
    if isinstance(outcome, Forbidden) or (isinstance(outcome, Answered) and outcome.status == _GONE[kind]):
        return Settlement(claimed, CallState.DEAD, error, ends_job=True)
    if _may_have_arrived(outcome) and care in _UNSURE:
        return Settlement(claimed, _UNSURE[care], error)
    wait, left = retrying.delay(claimed.attempts, random), claimed.since + retrying.give_up_after - at
    if isinstance(outcome, Answered):
        wait = max(wait, min(outcome.retry_after, left))  # whoever asks for more is tried a last time at the end
    if wait > left:
        return Settlement(claimed, CallState.DEAD, error, forget_news=over)
    return Settlement(claimed, CallState.WAITING, error, next_at=at + wait)


def _may_have_arrived(outcome: Outcome) -> bool:
    return isinstance(outcome, Unsure) or (isinstance(outcome, Answered) and outcome.status in GATEWAY_TIMEOUTS)


def _words(outcome: Outcome) -> str:
    if isinstance(outcome, Answered):
        return f"{outcome.status} {outcome.excerpt}".strip()
    return outcome.reason
