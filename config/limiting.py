"""The settings of how much an owner may ask for, and where that is counted (docs/limits.md)."""

from __future__ import annotations

import re
from typing import Self

from limits import RateLimitItem, parse_many
from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from config.fields import setting

_SCHEMES = ("redis://", "rediss://", "redis+unix://")
_NEGATIVE = re.compile(r"-\s*\d")
_NO_WINDOW = re.compile(r"(/|per)\s*0+\s*[a-z]", re.IGNORECASE)
_PARTS = re.compile(r"[,;|]")
WINDOWS = "second, minute, hour, day, month or year"

Rates = tuple[tuple[int, int], ...]
"""Amounts, and the seconds of their windows."""


class LimitingSettings(BaseSettings):
    """Part of `config.Settings`."""

    rate_requests: str = setting(
        "", "RATE_REQUESTS",
        why="Jobs that one owner may ask for, by whichever door: 5/second;1000/day. Empty: as many as there are places.",
    )  # fmt: skip
    rate_cost: str = setting(
        "", "RATE_COST",
        why="The same of cost, megapixels × steps × images (20 steps of 512 × 512: 5.24): 2000/hour. Empty: no limit.",
    )  # fmt: skip
    rate_login: str = setting(
        "10/minute;100/hour", "RATE_LOGIN",
        why="Tries to log in to one account from one address; one address may make ten times as many to all accounts together.",
    )  # fmt: skip
    cost_thousand_tokens: float = setting(
        1.0, "COST_THOUSAND_TOKENS", ge=0, le=1e6, allow_inf_nan=False,
        why="What a text costs, of RATE_COST and DAILY_COST, for each thousand tokens that it may have. 0: nothing.",
    )  # fmt: skip
    cost_custom: float = setting(
        1.0, "COST_CUSTOM", ge=0, le=1e6, allow_inf_nan=False,
        why="What a call of a custom model costs whose class names no cost of its own. 0: nothing.",
    )  # fmt: skip
    daily_pictures: int | None = setting(
        None, "DAILY_PICTURES", ge=1, le=10**9,
        why="Pictures that one owner may have in a day of UTC, by all nodes. `atelier quota` is for exceptions. Empty: no quota.",
    )  # fmt: skip
    daily_cost: float | None = setting(
        None, "DAILY_COST", gt=0, le=1e12, allow_inf_nan=False,
        why="The same of cost, as RATE_COST counts it.",
    )  # fmt: skip
    price_picture: float = setting(
        0.0, "PRICE_PICTURE", ge=0, le=1e9, allow_inf_nan=False,
        why="Of a picture, in whatever money: usage is told with prices, and what a job cost stays when they change.",
    )  # fmt: skip
    price_gpu_second: float = setting(
        0.0, "PRICE_GPU_SECOND", ge=0, le=1e9, allow_inf_nan=False, why="Of a second of the device (docs/limits.md)."
    )
    price_thousand_tokens: float = setting(
        0.0, "PRICE_THOUSAND_TOKENS", ge=0, le=1e9, allow_inf_nan=False, why="Of a thousand tokens of a text."
    )
    cached_price: float = setting(
        0.0, "CACHED_PRICE", ge=0, le=1, allow_inf_nan=False,
        why="The share of price and cost that an answer of CACHE_SECONDS has. 0: nothing; 1: as if it had been made.",
    )  # fmt: skip
    keep_usage_days: float = setting(
        400.0, "KEEP_USAGE_DAYS", gt=0, le=36_500,
        why="So long it is known what an ended job used, 200 bytes each: a year of bills, and a month to look at them.",
    )  # fmt: skip
    limits_url: SecretStr = setting(
        SecretStr(""), "LIMITS_URL", "REDIS_URL",
        why="redis://:password@host:6379/0, where all nodes count rates together. Empty, and no REDIS_HOST: each its own.",
    )  # fmt: skip
    redis_host: str = setting(
        "", "REDIS_HOST", "REDIS_HOST", pattern=r"^([A-Za-z0-9._:-]{1,255})?$", why="The same by its name alone."
    )
    redis_port: int = setting(6379, "REDIS_PORT", "REDIS_PORT", ge=1, le=65_535, why="Of REDIS_HOST.")

    @field_validator("rate_requests", "rate_cost", "rate_login")
    @classmethod
    def _rates(cls, value: str) -> str:
        read_rates(value)
        return value

    @field_validator("limits_url")
    @classmethod
    def _an_address(cls, value: SecretStr) -> SecretStr:
        url = value.get_secret_value()
        if url and not url.startswith(_SCHEMES):
            raise ValueError(f"must begin with one of {', '.join(_SCHEMES)}")
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.limits_url.get_secret_value() and self.redis_host:
            raise ValueError("ATELIER_LIMITS_URL and REDIS_HOST name two places")
        return self

    def counters_url(self) -> SecretStr:
        """Where rates are counted together; "" where each node counts for itself."""
        if self.redis_host:
            host = f"[{self.redis_host}]" if ":" in self.redis_host else self.redis_host
            return SecretStr(f"redis://{host}:{self.redis_port}/0")
        return self.limits_url


def read_rates(text: str) -> Rates:
    """`5/second;1000/day` in the notation of the library `limits`. Raises ValueError, which says what is wrong."""
    parts = [part for part in map(str.strip, _PARTS.split(text)) if part]
    rates = tuple(_rate(part) for part in parts)
    if len({seconds for _, seconds in rates}) < len(rates):
        raise ValueError("must have one limit for each window")
    return rates


def _rate(part: str) -> tuple[int, int]:
    shown = part[:40]
    if _NEGATIVE.search(part):
        raise ValueError(f"{shown!r} is negative; a limit is 1 or more")
    try:
        item: RateLimitItem = parse_many(part)[0]
        if _NO_WINDOW.search(part):  # the library would take it for one
            raise ValueError(part)
    except ValueError:
        raise ValueError(f"{shown!r} is not NUMBER/WINDOW, the window being a {WINDOWS}") from None
    if not item.amount:
        raise ValueError(f"{shown!r} would let nobody through; leave it empty for no limit")
    if item.amount > 10**12 or not 0 < item.get_expiry() <= 366 * 86_400:
        raise ValueError(f"{shown!r} is beyond 1000000000000 in a year")
    return item.amount, item.get_expiry()
