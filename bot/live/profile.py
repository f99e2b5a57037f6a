"""A scenario of live sessions, as TOML like the others; docs/bots.md shows one."""

from __future__ import annotations

from pydantic import Field

from bot.profile import Arrivals, Closed, Mix, Profile, Section


class Live(Section):
    """`sessions` on `connections`, each with `rate` frames a second, and what they must be like. Seconds."""

    sessions: int = Field(default=200, ge=1)
    connections: int = Field(default=20, ge=1)
    rate: float = Field(default=30.0, gt=0, le=1000)
    model: str = ""  # the server's first stream model
    aligned: bool = True  # frames are captured just before the server's tick; else at moments spread over its period
    lead_seconds: float = Field(default=0.008, ge=0, le=1)  # how long before the tick
    echo_input: bool = False
    source: str = ""  # one that the server's operator has configured: the bots send nothing then
    record: str = ""  # a file for the frames of the first session, which a source of the operator's can play again
    p99_seconds: float | None = Field(default=None, gt=0)  # from captured to heard
    starved_after_seconds: float = Field(default=1.0, gt=0)  # without a result, though connected
    dropped_share: float = Field(default=0.05, ge=0, le=1)  # of the frames sent, at most
    outage_seconds: float = Field(
        default=1.0, gt=0
    )  # from the last result on a connection that is lost to the first on the next


class LiveProfile(Profile):
    """Nobody arrives and nobody orders: sessions are there from the beginning to the end."""

    arrivals: Arrivals = Closed(process="closed", users=1)
    orders: tuple[Mix, ...] = ()
    live: Live

    @property
    def bots(self) -> int:
        """Its connections."""
        return min(self.live.connections, self.live.sessions)
