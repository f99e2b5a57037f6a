"""Latencies count from the intended moment, and figures of several processes add up."""

from __future__ import annotations

import json

import pytest

from bot.choosing import Conduct
from bot.figures import Figures
from bot.visit import End
from tests.bot.visits import Watch, visit


def _figures(*visits: tuple[float, float, float, float]) -> Figures:
    """Of visits that were intended, sent, accepted and ended at those moments."""
    figures = Figures(1.0)
    for number, (intended, sent, accepted, ended) in enumerate(visits):
        watch = Watch()
        one, _ = visit(watch, intended, number=number)
        figures.intended(one)
        watch.at = sent
        one.on_sent()
        watch.at = accepted
        one.on_accepted("j", 7)
        watch.at = ended
        one.finish(End.SUCCEEDED)
        figures.ended(one)
    return figures


def test_a_server_that_holds_up_the_bots_hides_nothing() -> None:
    """A visitor who could only be sent five seconds late waited these, too (coordinated omission)."""
    figures = _figures((0.0, 5.0, 5.1, 6.0))
    assert figures.latencies["result"].percentile(50) == pytest.approx(6.0, rel=0.01)
    assert figures.latencies["result_from_sent"].percentile(50) == pytest.approx(1.0, rel=0.01)
    assert figures.latencies["lateness"].percentile(50) == pytest.approx(5.0, rel=0.01)
    assert figures.latencies["accepted"].percentile(50) == pytest.approx(5.1, rel=0.01)


def test_parts_add_up_to_the_whole() -> None:
    """By way of JSON, as processes send them: the same percentiles, counts and timeline as of one process."""
    visits = [(float(n % 7), n % 7 + 0.1, n % 7 + 0.2, n % 7 + 0.3 + n / 50) for n in range(100)]
    whole = _figures(*visits)
    parts = [json.loads(json.dumps(_figures(*visits[begin::3]).as_json())) for begin in range(3)]
    merged = Figures.merged(parts)
    assert merged.counts() == whole.counts()
    assert merged.timeline() == whole.timeline()
    for name, latency in whole.latencies.items():
        assert merged.latencies[name].summary() == latency.summary()


def test_only_polite_visitors_are_timed() -> None:
    """Who reads slowly waits for himself."""
    watch = Watch()
    one, _ = visit(watch, conduct=Conduct.SLOW_READER)
    figures = Figures(1.0)
    figures.intended(one)
    one.on_accepted("j", 7)
    watch.at = 50.0
    one.finish(End.SUCCEEDED)
    figures.ended(one)
    assert figures.latencies["result"].count == 0
    assert figures.counts()["succeeded"] == 1


def test_different_stretches_do_not_add_up() -> None:
    """A sum of them would mean nothing."""
    with pytest.raises(ValueError, match="stretches"):
        Figures(1.0).merge(Figures(2.0).as_json())


def test_no_latency_is_none() -> None:
    """Rather than zero seconds."""
    assert Figures(1.0).latencies["result"].summary()["p99"] is None
