"""The settings of limits, and what is told of one that makes no sense."""

from __future__ import annotations

import pytest

from config import load_settings
from config.limiting import read_rates
from tests.config.test_settings import alone as alone  # the fixture
from tests.config.test_settings import refused


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("", ()),
        ("5/second", ((5, 1),)),
        ("5 per second; 1000/day", ((5, 1), (1000, 86_400))),
        ("2000/HOUR, 9/90 seconds", ((2000, 3600), (9, 90))),
    ],
)
def test_rates_are_read_as_people_write_them(text: str, rates: tuple[tuple[int, int], ...]) -> None:
    """In the notation of the library `limits`."""
    assert read_rates(text) == rates


@pytest.mark.parametrize("name", ["ATELIER_RATE_REQUESTS", "ATELIER_RATE_COST", "ATELIER_RATE_LOGIN"])
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("-3/minute", "is negative"),
        ("0/second", "would let nobody through; leave it empty for no limit"),
        ("5/fortnight", "is not NUMBER/WINDOW, the window being a second, minute, hour, day, month or year"),
        ("5/0 seconds", "is not NUMBER/WINDOW"),
        ("5", "is not NUMBER/WINDOW"),
        ("many/minute", "is not NUMBER/WINDOW"),
        ("1.5/minute", "is not NUMBER/WINDOW"),
        ("5/second;6/second", "one limit for each window"),
        ("5/2 years", "is beyond"),
        ("9999999999999/second", "is beyond"),
    ],
)
def test_a_rate_that_is_none_stops_the_start(name: str, text: str, why: str) -> None:
    """The message names the variable and the part of it."""
    message = refused(**{name: text})
    assert message.startswith(f"{name}: ")
    assert why in message


def test_where_rates_are_counted() -> None:
    """By an address, or by the host and port that other systems' settings have."""
    assert load_settings().counters_url().get_secret_value() == ""
    assert load_settings(redis_host="redis").counters_url().get_secret_value() == "redis://redis:6379/0"
    assert load_settings(redis_host="::1", redis_port=7).counters_url().get_secret_value() == "redis://[::1]:7/0"
    url = "rediss://:secret-of-sixteen@r:1/2"
    assert load_settings(limits_url=url).counters_url().get_secret_value() == url


def test_an_address_that_is_none_stops_the_start() -> None:
    """Without a word of what may be a password."""
    message = refused(ATELIER_LIMITS_URL="memcached://:hush-hush-hush@here")
    assert message == "ATELIER_LIMITS_URL: must begin with one of redis://, rediss://, redis+unix://"
    assert "two places" in refused(ATELIER_LIMITS_URL="redis://a", REDIS_HOST="b")
    assert refused(REDIS_PORT="0").startswith("REDIS_PORT: ")
    assert refused(REDIS_HOST="a b").startswith("REDIS_HOST: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("ATELIER_DAILY_PICTURES", "0"), ("ATELIER_DAILY_PICTURES", "-1"), ("ATELIER_DAILY_PICTURES", "1.5"),
        ("ATELIER_DAILY_COST", "0"), ("ATELIER_DAILY_COST", "-3"), ("ATELIER_DAILY_COST", "nan"), ("ATELIER_DAILY_COST", "inf"),
        ("ATELIER_PRICE_PICTURE", "-0.1"), ("ATELIER_PRICE_GPU_SECOND", "inf"), ("ATELIER_PRICE_THOUSAND_TOKENS", "free"),
        ("ATELIER_KEEP_USAGE_DAYS", "0"),
    ],
)  # fmt: skip
def test_a_quota_or_a_price_that_makes_no_sense_stops_the_start(name: str, text: str) -> None:
    """A quota of 0 would let nobody through: leave it empty for none, or use `atelier quota` for one owner."""
    assert refused(**{name: text}).startswith(f"{name}: ")
