"""What bots ask of a door, and nothing of how it speaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from bot.visit import Visit


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """How the server says it is doing. None: this door does not tell."""

    ready: bool = True
    connections: int | None = None
    jobs_waiting: int | None = None
    jobs_running: int | None = None
    batch_size: int | None = None
    step_seconds: float | None = None
    reactor_lag_ms: float | None = None
    device_memory: int | None = None  # bytes held on all devices: models, adapters, latents
    version: str = ""
    problem: str = ""


class Session(Protocol):
    """One bot's way in. It comes back by itself when the connection is lost, and what was under way goes on."""

    async def open(self) -> None:
        """Connect and log in. Raises CannotConnectError, NotWelcomeError."""
        ...

    @property
    def alive(self) -> bool:
        """Whether it is connected, or has not yet given up coming back."""
        ...

    def send(self, visit: Visit) -> None:
        """Ask for the visit's picture; the visit is told all that follows. Raises ClientError."""
        ...

    async def cancel(self, job_id: str) -> None:
        """Ask that a job be stopped. Raises Refusal, ClientError."""
        ...

    def drop(self) -> None:
        """Lose the connection, as when a cable is pulled."""
        ...

    def hold(self, held: bool) -> None:
        """Read nothing more, or read again."""
        ...

    async def close(self) -> None:
        """Hang up for good."""
        ...


class Door(Protocol):
    """A server's address, by one protocol."""

    @property
    def address(self) -> str:
        """For messages."""
        ...

    @property
    def room(self) -> int | None:
        """How many jobs of one owner may be pending, as the server said when it was found; None if it did not."""
        ...

    def session(self, name: str) -> Session:
        """A bot of that name, not yet connected."""
        ...

    async def open(self) -> None:
        """Find the server there. Raises CannotConnectError, NotWelcomeError."""
        ...

    async def styles(self) -> list[str]:
        """The adapters of the default model. Raises Refusal, ClientError."""
        ...

    async def health(self) -> Health:
        """How it is doing. Raises Refusal, ClientError."""
        ...

    async def state_of(self, job_id: str) -> str:
        """What the server's records say of a job ("succeeded"); "unknown" where it has none. Raises Refusal, ClientError."""
        ...

    async def babble(self, number: int) -> str | None:
        """Say something that is no request, on a connection of its own. "" if the server coped, else what it did instead; None
        where it went away before anything was said."""
        ...

    async def usurp(self, count: int) -> str | None:
        """Log in so many times at once under one name, each to have it alone. "" if one had it in the end and all others were
        told why they had to go, else what happened instead; None where nobody logs in. Raises CannotConnectError,
        NotWelcomeError."""
        ...

    async def close(self) -> None:
        """Hang up."""
        ...
