"""What every connection of the TCP door shares: its limits, whom it asks, and how it hangs up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from twisted.internet import tcp

from proto import atelier_pb2 as pb
from server.clock import Clock
from server.door_counts import DoorCounts
from server.exclusive import Exclusives
from server.futures import Tasks
from server.handlers import HandlerTable
from server.identity import Identities
from server.interfaces import ArtifactStore
from server.jobs.board import Board
from server.live.events import Live
from server.live.none import NoLive
from server.principal import Principal
from server.vigil import Vigil


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorLimits:
    """Seconds, bytes and counts of one connection (see config.settings for the reasons); `told` is what Welcome says."""

    handshake_frame_bytes: int
    max_frame_bytes: int
    chunk_bytes: int
    handshake_timeout: float
    frame_timeout: float
    idle_timeout: float
    slow_reader_timeout: float
    max_requests: int
    told: pb.Limits


def unnoted(principal: Principal, action: str, target: str, address: str) -> None:
    """For a door without an audit log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorParts:
    """What every connection of the door shares. `note` writes down what keys and admins change."""

    handlers: HandlerTable
    board: Board
    artifacts: ArtifactStore
    identities: Identities
    vigil: Vigil
    clock: Clock
    tasks: Tasks
    limits: DoorLimits
    live: Live = field(default_factory=NoLive)
    counts: DoorCounts = field(default_factory=DoorCounts)
    exclusives: Exclusives = field(default_factory=Exclusives)
    note: Callable[[Principal, str, str, str], None] = unnoted


def hang_up(transport: Any) -> None:
    """End our side when everything is written, and let the peer end its own.

    To close both at once while the peer still sends would reset the connection, and could lose it our last words. The caller
    cuts the connection off after a grace.
    """
    if isinstance(transport, tcp.Connection) and not transport.TLS:
        transport.loseWriteConnection()  # type: ignore[no-untyped-call]
    else:  # TLS says goodbye in its own way
        transport.loseConnection()
