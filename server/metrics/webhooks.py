"""Calls of webhooks: each try by what came of it, and what became of calls in the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from prometheus_client import Counter, Histogram
from prometheus_client.metrics_core import Metric

from server.metrics.registry import Metrics, Read, counter, gauge
from server.webhook import CallState, OutboxCall
from server.webhooks.calls import TRUSTED
from server.webhooks.delivery import Delivery, Sender
from server.webhooks.sending import Answered, Forbidden, Outcome, Unreached, Unsure

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_OUTCOMES = {Unreached: "unreached", Forbidden: "forbidden", Unsure: "unsure"}
_SETTLED = {
    CallState.DELIVERED: "delivered",
    CallState.WAITING: "retried",
    CallState.DROPPED: "dropped",
    CallState.UNKNOWN: "unknown",
    CallState.DEAD: "dead",
}


class MeasuredSender:
    """A `Sender` that is timed. `receiver` is the backend of the settings, or other: users may name any number of addresses."""

    def __init__(self, sender: Sender, metrics: Metrics, clock: Callable[[], float] = time.monotonic) -> None:
        self._sender = sender
        self._clock = clock
        self._calls = Counter(
            "atelier_webhook_calls",
            "Tries of calls: answered (2xx, 3xx, 4xx, 5xx), unreached, forbidden, unsure (it may have arrived).",
            ("receiver", "outcome"),
            registry=metrics.registry,
        )
        self._seconds = Histogram(
            "atelier_webhook_call_seconds",
            "One try of a call.",
            ("receiver",),
            registry=metrics.registry,
            buckets=SECONDS,
        )

    async def send(self, call: OutboxCall, *, news: bool) -> Outcome:
        """As the sender's."""
        began = self._clock()
        receiver = "backend" if call.target == TRUSTED else "other"
        outcome = await self._sender.send(call, news=news)
        self._seconds.labels(receiver).observe(self._clock() - began)
        self._calls.labels(receiver, _word(outcome)).inc()
        return outcome


def _word(outcome: Outcome) -> str:
    if isinstance(outcome, Answered):
        return f"{outcome.status // 100}xx"
    return _OUTCOMES[type(outcome)]


def delivery_families(delivery: Delivery) -> Read:
    """What became of calls, and who is called now."""

    def read() -> Iterable[Metric]:
        settled = [((word,), delivery.made[state]) for state, word in _SETTLED.items()]
        yield counter("atelier_webhooks_settled", "What followed from tries of calls.", settled, ("state",))
        yield gauge("atelier_webhook_calls_under_way", "Calls being made now.", [((), delivery.under_way)])
        resting = [((), delivery.resting)]
        yield gauge("atelier_webhook_receivers_resting", "Receivers left alone since they do not answer.", resting)

    return read
