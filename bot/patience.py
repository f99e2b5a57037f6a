"""How long a client waits for what, and how it comes back after a failure. Pure: the randomness is an argument."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds.

    `ping_every`: None is a third of the server's idle time-out, so that one lost Ping does not cost the connection.
    """

    handshake: float = 10.0  # from connecting to Welcome; the server's own limit is the same
    ping_every: float | None = None
    ping_answer: float = 10.0  # a live server answers in milliseconds; a picture ahead of the Pong takes a little
    reconnect_for: float = 60.0  # a server's restart, its model's loading included
    first_wait: float = 0.25  # a dropped connection is usually back at once …
    longest_wait: float = 8.0  # … and a server that is down should not be hammered


class Backoff:
    """Ever longer waits up to a cap; each is spread over its upper half, so that clients do not come back in step.

    `random` gives numbers from 0 to 1.
    """

    def __init__(self, first: float, longest: float, random: Callable[[], float]) -> None:
        self._first = first
        self._longest = longest
        self._random = random
        self._next = first

    def next(self) -> float:
        """How long to wait now."""
        wait, self._next = self._next, min(self._next * 2, self._longest)
        return wait * (0.5 + 0.5 * self._random())

    def reset(self) -> None:
        """It worked: begin anew."""
        self._next = self._first
