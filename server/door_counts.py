"""What a door has seen since the server's start: plain numbers, so that counting costs nothing. Written on the reactor thread."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class DoorCounts:
    """`connections` that were accepted, `requests` by their kind, `refusals` by the name of their code, `ends` by their reason
    (server.session.End), bytes either way."""

    connections: int = 0
    requests: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    received_bytes: int = 0
    sent_bytes: int = 0
