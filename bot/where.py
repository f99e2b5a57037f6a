"""Where the server is, and how to speak to it: from the command line's words to a door."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, SecretStr, field_serializer

from bot.asked import NotUnderstood
from bot.doors.amqp import AmqpDoor
from bot.doors.door import Door
from bot.doors.http import HttpDoor
from bot.doors.tcp import TcpDoor
from bot.patience import Patience
from bot.reconnecting import Tell

DoorKind = Literal["tcp", "http", "amqp"]
DOOR_KINDS: tuple[DoorKind, ...] = ("tcp", "http", "amqp")
USUAL: dict[str, str] = {
    "tcp": "tcp:127.0.0.1:9000", "http": "http://127.0.0.1:8001", "amqp": "amqp://guest:guest@127.0.0.1:5672/"
}  # fmt: skip
PING_ANSWER = 30.0  # seconds: a server that a fault pauses is not gone, and a busy bot process reads late
HANDSHAKE = 30.0  # seconds: thousands may come in at once


def known_door(name: str) -> DoorKind:
    """The door of that name. Raises NotUnderstood."""
    for kind in DOOR_KINDS:
        if kind == name:
            return kind
    raise NotUnderstood(f"--door {name} is none that bots know: {', '.join(DOOR_KINDS)}")


class Where(BaseModel):
    """A server and a way in. `reconnect_for` seconds a lost connection is tried again; `artifacts` is the server's folder of
    pictures, for a door by which they do not come."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: DoorKind = "tcp"
    address: str = USUAL["tcp"]
    token: SecretStr = SecretStr("")
    reconnect_for: float = 60.0
    artifacts: Path | None = None

    @field_serializer("token", when_used="json")
    def _told(self, token: SecretStr) -> str:
        """To a child process, by its stdin."""
        return token.get_secret_value()

    def door(self, reactor: Any, tell: Tell) -> Door:
        """The door. Raises CannotConnectError for what is no address."""
        patience = Patience(
            handshake=HANDSHAKE, ping_answer=PING_ANSWER, reconnect_for=self.reconnect_for, longest_wait=2.0
        )
        if self.kind == "amqp":
            return AmqpDoor(reactor, self.address, patience=patience, tell=tell, artifacts=self.artifacts)
        made = HttpDoor if self.kind == "http" else TcpDoor
        return made(reactor, self.address, token=self.token.get_secret_value(), patience=patience, tell=tell)
