"""The registry's text: read in one place, written in another, and the same for all who ask at once."""

from __future__ import annotations

import asyncio

from prometheus_client import Counter

from ai.histogram import Histogram
from server.metrics.registry import Metrics, counter, gauge, histogram
from server.pools import InlinePool
from tests.server.fakes import HoldingPool, settle
from tests.server.metrics.scrape import now, samples, some_metrics


async def test_what_is_looked_up_is_as_it_is_when_it_is_asked_for() -> None:
    """A gauge's number is read anew with each text."""
    metrics, number = some_metrics(), [1.0]
    metrics.add(lambda: [gauge("atelier_this", "That.", [((), number[0])])])
    number[0] = 7.0
    text, content_type = await metrics.text()
    assert samples(text.decode())["atelier_this"] == 7.0
    assert content_type.startswith("text/plain; version=")


async def test_openmetrics_is_for_whoever_accepts_it() -> None:
    """Prometheus asks so; its text ends with a mark."""
    text, content_type = await some_metrics().text("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")


async def test_looking_up_is_done_at_once_and_writing_on_the_pool() -> None:
    """Whoever asks while it is written gets the same text, and the pool is asked once."""
    pool = HoldingPool()
    looks: list[None] = []
    metrics = Metrics(pool)
    metrics.add(lambda: looks.append(None) or [gauge("atelier_this", "That.", [((), len(looks))])])  # type: ignore[func-returns-value]
    asking = [asyncio.ensure_future(metrics.text()) for _ in range(3)]
    await settle()
    assert (len(looks), pool.asked) == (2, 1), "once when it was added, once for all three"
    pool.gate.set()
    texts = await asyncio.gather(*asking)
    assert texts[0] == texts[1] == texts[2]
    await metrics.text()
    assert (len(looks), pool.asked) == (3, 2)


async def test_one_who_goes_away_takes_nobody_s_text_along() -> None:
    """The others still get theirs."""
    pool = HoldingPool()
    metrics = Metrics(pool)
    leaving, staying = (asyncio.ensure_future(metrics.text()) for _ in range(2))
    await settle()
    leaving.cancel()
    pool.gate.set()
    assert b"process_open_fds" in (await staying)[0]


def test_histograms_are_told_cumulatively() -> None:
    """Each bucket with all below it, the last with all there are; count and sum beside."""
    metrics = some_metrics()
    seen = Histogram((1.0, 2.5)).add(0.5).add(2.0).add(9.0)
    metrics.add(lambda: [histogram("atelier_wait_seconds", "A wait.", [(("cpu",), seen)], ("device",))])
    found = now(metrics)
    buckets = [found[f'atelier_wait_seconds_bucket{{device="cpu",le="{le}"}}'] for le in ("1.0", "2.5", "+Inf")]
    assert buckets == [1, 2, 3]
    assert found['atelier_wait_seconds_sum{device="cpu"}'] == 11.5
    assert found['atelier_wait_seconds_count{device="cpu"}'] == 3


def test_no_series_says_when_it_was_made() -> None:
    """Each counter is one series, not two."""
    metrics = Metrics(InlinePool())
    Counter("atelier_things", "Things.", registry=metrics.registry).inc()
    metrics.add(lambda: [counter("atelier_others", "Others.", [((), 2)])])
    found = now(metrics)
    assert (found["atelier_things_total"], found["atelier_others_total"]) == (1, 2)
    assert not [name for name in found if name.endswith("_created")]
