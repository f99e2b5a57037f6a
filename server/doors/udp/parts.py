"""What the UDP door is joined to, how much it lets everyone do, and what it has seen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from server.clock import Clock
from server.door_parts import unnoted
from server.futures import Tasks
from server.handlers import HandlerTable
from server.identity import Identities
from server.jobs.board import Board
from server.live.events import Live
from server.principal import Principal
from server.udp_keys import UdpKeys

Address = tuple[str, int]

MISSED = 3  # heartbeats that may be missing: a network that loses one datagram of three says one of three in a thousand


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpLimits:
    """Seconds and counts (see config.udp for the reasons). `group` is where subscriptions `to_group` go, None: nowhere."""

    heartbeat: float
    datagrams_per_second: int  # of one key
    subscriptions_per_owner: int
    subscriptions: int
    group: Address | None = None

    @property
    def silence(self) -> float:
        """Seconds after which a client that says nothing is gone."""
        return self.heartbeat * MISSED


@dataclass(slots=True)
class UdpCounts:
    """Plain numbers since the start, so that counting costs nothing.

    `dropped` is what was not answered, by the reason; `overtaken` what was not sent since newer was there, `unsent` what the
    system would not take.
    """

    received: int = 0
    received_bytes: int = 0
    sent: int = 0
    sent_bytes: int = 0
    overtaken: int = 0
    unsent: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    evicted: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True, slots=True, kw_only=True)
class UdpParts:
    """Everything the door asks."""

    keys: UdpKeys
    identities: Identities
    handlers: HandlerTable
    board: Board
    live: Live
    clock: Clock
    limits: UdpLimits
    note: Callable[[Principal, str, str, str], None] = unnoted  # what keys and admins change
    tasks: Tasks = field(default_factory=Tasks)
    counts: UdpCounts = field(default_factory=UdpCounts)
