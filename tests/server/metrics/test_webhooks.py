"""Webhooks' calls as they are counted."""

from __future__ import annotations

import pytest

from server.metrics.webhooks import MeasuredSender
from server.webhook import Channel, OutboxCall
from server.webhooks.calls import TRUSTED
from server.webhooks.sending import Answered, Forbidden, Outcome, Unreached, Unsure
from tests.server.metrics.scrape import now, some_metrics
from tests.server.webhooks.sender import FakeSender

SECRET = "https://SECRET.example:443"


def call(target: str) -> OutboxCall:
    """A job's end, for this target."""
    return OutboxCall(id="x", job_id="a", name="end", channel=Channel.WEBHOOK, payload="{}", position=1, target=target)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (Answered(204), "2xx"),
        (Answered(302), "3xx"),
        (Answered(404), "4xx"),
        (Answered(503), "5xx"),
        (Unreached("no route"), "unreached"),
        (Forbidden("a private address"), "forbidden"),
        (Unsure("late"), "unsure"),
    ],
)
async def test_each_try_is_counted_by_what_came_of_it(outcome: Outcome, word: str) -> None:
    """The backend's apart from all others, whose addresses are no labels."""
    metrics, inner = some_metrics(), FakeSender()
    inner.outcomes = {SECRET: [outcome], TRUSTED: [outcome]}
    ticks = iter([1.0, 3.0, 5.0, 6.0])
    sender = MeasuredSender(inner, metrics, lambda: next(ticks))
    assert await sender.send(call(SECRET), news=False) is outcome
    assert await sender.send(call(TRUSTED), news=False) is outcome
    found = now(metrics)
    calls = [found[f'atelier_webhook_calls_total{{outcome="{word}",receiver="{who}"}}'] for who in ("other", "backend")]
    assert calls == [1, 1]
    seconds = [found[f'atelier_webhook_call_seconds_sum{{receiver="{who}"}}'] for who in ("other", "backend")]
    assert seconds == [2, 1]
    assert not [name for name in found if "SECRET" in name]
