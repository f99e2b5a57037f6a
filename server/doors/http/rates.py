"""Where an owner stands, as headers: the IETF's draft (RateLimit-Policy, RateLimit), and the X-RateLimit-* that clients know.

    RateLimit-Policy: "requests";q=5;w=1, "cost";q=2000;w=3600          every rate: its quota, its window in seconds
    RateLimit: "requests";r=4;t=1, "cost";r=1994;t=3120                 what is left, and in how many seconds the window ends
    X-RateLimit-Limit: 2000, X-RateLimit-Remaining: 1994, X-RateLimit-Reset: 3120      of the one with the smallest share left

https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
"""

from __future__ import annotations

import math
from collections.abc import Collection

from server.limits import Standing


def rate_headers(standings: Collection[Standing]) -> list[tuple[bytes, bytes]]:
    """Of the rates that a request was counted against; none where it was counted against none."""
    if not standings:
        return []
    policy = ", ".join(f'"{one.rate.name}";q={one.rate.amount};w={one.rate.seconds}' for one in standings)
    state = ", ".join(f'"{one.rate.name}";r={math.floor(one.left)};t={_seconds(one)}' for one in standings)
    least = min(standings, key=lambda one: one.left / one.rate.amount)
    return [
        (b"ratelimit-policy", policy.encode()),
        (b"ratelimit", state.encode()),
        (b"x-ratelimit-limit", str(least.rate.amount).encode()),
        (b"x-ratelimit-remaining", str(math.floor(least.left)).encode()),
        (b"x-ratelimit-reset", str(_seconds(least)).encode()),
    ]


def _seconds(standing: Standing) -> int:
    return math.ceil(standing.resets_in)
