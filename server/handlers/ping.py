"""Ping: are you there, and what time is it."""

from __future__ import annotations

from collections.abc import Callable

from server.commands import Ping
from server.replies import Pong


class PingHandler:
    """Answers at once. `seconds` is the UTC clock."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds

    def __call__(self, command: Ping) -> Pong:
        """Answers at once."""
        return Pong(command.client_time_us, int(self._seconds() * 1_000_000))
