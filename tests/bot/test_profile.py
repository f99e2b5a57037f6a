"""Scenarios are checked whole, and what is wrong with one is told with its place and the nearest right word."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.live.profile import LiveProfile
from bot.profile import ProfileError, library, load_profile, parse_profile, parsed, read_profile

GOOD = '[arrivals]\nprocess = "poisson"\nrate = 2.0\n[[orders]]\nprompts = ["a"]\n'


def test_the_ready_ones_are_all_good() -> None:
    """Each says what it is about, and has orders."""
    assert library() == ["artists-evening", "gallery-launch", "game-lobby", "rough-weather", "shop-backend"]
    for name in library():
        profile = load_profile(name)
        assert profile.about
        assert profile.orders


def test_a_file_is_found_by_its_path(tmp_path: Path) -> None:
    """Whatever it is called."""
    (tmp_path / "mine.toml").write_text(GOOD)
    assert load_profile(str(tmp_path / "mine.toml")).orders[0].prompts == ("a",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD.replace("rate", "rat"), "unknown key arrivals.rat; did you mean rate?"),
        (GOOD + "stepps = [3]", "unknown key orders.1.stepps; did you mean steps?"),
        ("titel = 'x'\n" + GOOD, "unknown key titel; did you mean title?"),
        (GOOD + "[behaviour]\ncancels = 0.1", "unknown key behaviour.cancels; did you mean cancel?"),
        (
            GOOD + "[objectives]\np99_seconds = 1.0",
            "unknown key objectives.p99_seconds; did you mean p99_result_seconds?",
        ),
        (GOOD + "zzz = 1", "unknown key orders.1.zzz; known here: guidance, images"),
        (GOOD + 'sizes = ["big"]', 'orders.1.sizes: must be like "128x128"'),
        (GOOD + "styles = []", "orders.1.styles: must have an entry"),
        (GOOD + "[behaviour]\ncancel = 0.8\ndisconnect = 0.3", "must not add up to more than 1"),
        (GOOD + "[behaviour]\ncancel = 2.0", "behaviour.cancel: Input should be less than or equal to 1"),
        (GOOD.replace("poisson", "sometimes"), "arrivals.process must be one of closed, poisson, ramp, spike"),
        ("[arrivals]\nrate = 1.0\n[[orders]]\nprompts = ['a']", "arrivals needs a process"),
        ('[arrivals]\nprocess = "closed"\nthink_seconds = [2.0, 1.0]\n[[orders]]\nprompts = ["a"]', "from and to"),
        ('[arrivals]\nprocess = "closed"', "orders is missing"),
        ("rate = ", "is no TOML"),
    ],
)
def test_a_mistake_is_told(text: str, said: str) -> None:
    """With the file's name before it."""
    with pytest.raises(ProfileError) as told:
        parse_profile(text, "mine.toml")
    assert said in str(told.value)
    assert str(told.value).startswith("mine.toml")


def test_one_that_is_not_there_is_told() -> None:
    """With the names of those that are."""
    with pytest.raises(ProfileError, match=r"no profile 'lobby'.*ready ones: artists-evening"):
        load_profile("lobby")


def test_live_scenarios_are_a_kind_of_their_own() -> None:
    """Each ready one is read as what it is; a mistake in its table is told as elsewhere."""
    assert library(live=True) == ["face-tracking"]
    profile = read_profile("face-tracking", LiveProfile)
    assert (profile.live.sessions, profile.live.rate, profile.bots) == (200, 30.0, 20)
    assert profile.live.aligned
    with pytest.raises(ProfileError, match=r"unknown key live\.sesions; did you mean sessions"):
        parsed("[live]\nsesions = 3", "mine.toml", LiveProfile)
    with pytest.raises(ProfileError, match="ready ones: face-tracking"):
        read_profile("game-loby", LiveProfile)
    with pytest.raises(ProfileError, match="live is missing"):
        read_profile("game-lobby", LiveProfile)
