"""Client names that a connection has for itself: a later login under the same name puts the earlier out.

A client that came back while the server still believes in its old connection is such a later login, and so is a second copy of it
started by mistake. Names are an owner's own: nobody puts another owner's connection out. Each process keeps its own.
"""

from __future__ import annotations

from typing import Protocol

from server.errors import Code, Refusal


class Session(Protocol):
    """A connection that can be told to go."""

    def close(self, reason: Refusal) -> None:
        """Say why, and close."""
        ...


class Exclusives:
    """Who holds which name."""

    def __init__(self) -> None:
        self._holders: dict[tuple[str, str], Session] = {}

    def take(self, owner: str, client_name: str, session: Session) -> None:
        """Hold a name; its earlier holder is put out with DUPLICATE_LOGIN."""
        earlier = self._holders.get((owner, client_name))
        self._holders[owner, client_name] = session
        if earlier is not None:
            earlier.close(Refusal(Code.DUPLICATE_LOGIN, f"{client_name!r} has logged in on another connection"))

    def leave(self, owner: str, client_name: str, session: Session) -> None:
        """Its connection is gone. One that was put out takes nothing from its successor."""
        if self._holders.get((owner, client_name)) is session:
            del self._holders[owner, client_name]

    def __len__(self) -> int:
        """Names that are held."""
        return len(self._holders)
