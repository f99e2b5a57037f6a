"""What visitors want and do follows from the seed and their number alone; when they come, from the seed."""

from __future__ import annotations

from collections import Counter
from statistics import fmean

import pytest

from bot.arrivals import moments
from bot.choosing import Chooser, Conduct
from bot.profile import Closed, Poisson, Ramp, Spike, load_profile

STYLES = ["neon", "chalk", "pixel"]


def test_the_same_number_wants_the_same() -> None:
    """Whoever is asked, in whatever order, whatever the order of the server's adapters."""
    profile = load_profile("game-lobby")
    one, other = Chooser(profile, 5, STYLES), Chooser(profile, 5, STYLES[::-1])
    forwards = [one.order(number) for number in range(50)]
    backwards = [other.order(number) for number in reversed(range(50))]
    assert forwards == backwards[::-1]
    assert forwards != [Chooser(profile, 6, STYLES).order(number) for number in range(50)]
    assert one.pause(3, (1.0, 2.0)) == other.pause(3, (1.0, 2.0))


def test_shares_are_kept() -> None:
    """Of many visitors as many misbehave, and want each mix, as the scenario says."""
    profile = load_profile("game-lobby")
    orders = [Chooser(profile, 1, STYLES).order(number) for number in range(4000)]
    conducts = Counter(order.conduct for order in orders)
    assert conducts[Conduct.CANCEL] / 4000 == pytest.approx(profile.behaviour.cancel, abs=0.02)
    assert conducts[Conduct.BAD_PACKET] / 4000 == pytest.approx(profile.behaviour.bad_packet, abs=0.01)
    assert Counter(order.mix for order in orders)["avatar"] / 4000 == pytest.approx(0.8, abs=0.03)
    assert {order.styles for order in orders if order.mix == "avatar"} == {(style,) for style in STYLES}


def test_a_server_without_styles_is_asked_for_none() -> None:
    """Any of nothing is nothing."""
    order = Chooser(load_profile("game-lobby"), 1, []).order(0)
    assert order.styles == ()
    assert order.fields("key")["adapters"] == ()


def test_a_signature_is_text_and_artist() -> None:
    """So that the picture's metadata can be held against it."""
    chooser = Chooser(load_profile("shop-backend"), 1, STYLES)
    order = next(order for order in map(chooser.order, range(10)) if order.signature)
    signature = order.fields("key")["signature"]
    assert signature is not None
    assert (signature.text, signature.artist) == (order.signature, order.signature)


def test_poisson_moments_have_their_rate() -> None:
    """They ascend, are the same for the same seed, and about as many as the rate says."""
    arrivals = Poisson(process="poisson", rate=10.0)
    times = list(moments(arrivals, 4, 200.0))
    assert times == sorted(times) == list(moments(arrivals, 4, 200.0))
    assert times != list(moments(arrivals, 5, 200.0))
    assert len(times) == pytest.approx(2000, rel=0.1)
    assert fmean(times) == pytest.approx(100, rel=0.1)


def test_a_ramp_grows() -> None:
    """From 0 to 10 a second: a quarter of the visitors in the first half."""
    times = list(moments(Ramp(process="ramp", from_rate=0.0, to_rate=10.0), 4, 200.0))
    assert len(times) == pytest.approx(1000, rel=0.1)
    assert sum(at < 100 for at in times) / len(times) == pytest.approx(0.25, abs=0.04)


def test_a_spike_is_in_its_place() -> None:
    """Fifty times the rate for ten seconds in the middle."""
    times = list(moments(Spike(process="spike", rate=1.0, spike_rate=50.0, spike_at=0.5, spike_seconds=10.0), 4, 100.0))
    assert sum(50 <= at < 60 for at in times) == pytest.approx(500, rel=0.15)
    assert sum(at < 50 for at in times) == pytest.approx(50, rel=0.4)


def test_a_closed_loop_has_no_moments() -> None:
    """Its visitors come when the last answer is there."""
    with pytest.raises(ValueError, match="closed loop"):
        next(moments(Closed(process="closed"), 1, 10.0))
