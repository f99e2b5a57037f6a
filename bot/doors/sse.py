"""Server-sent events as they arrive (HTML Living Standard, 9.2), of which Atelier's door uses `event`, `data` and comments."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

MOST_HELD = 16 << 20  # bytes of one event: a preview in base64 is a few thousand

Hear = Callable[[str, dict[str, Any]], bool]


class EventStream(Protocol):
    """A response's body. `hear` is told each event's name and data, and says whether it was the last; `over` then gives that
    event's data, or None where the stream ended before."""

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._held = b""
        self.over: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes, cut anywhere."""
        *blocks, self._held = (self._held + data).split(b"\n\n")
        if len(self._held) > MOST_HELD:
            self.abort()
        for block in blocks:
            self._block(block)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Whatever the reason: it is over."""
        self._settle(None)

    def hold(self, held: bool) -> None:
        """Read no more, or read again."""
        if self.transport is not None:
            self._producer.pauseProducing() if held else self._producer.resumeProducing()

    def abort(self) -> None:
        """Hang up in the middle."""
        self._settle(None)
        if self.transport is not None:
            with suppress(Exception):  # a transport that is gone already says so in several ways
                self._producer.stopProducing()

    def _block(self, block: bytes) -> None:
        name, data = "", []
        for line in block.decode(errors="replace").split("\n"):
            field, _, value = line.partition(":")
            if field == "event":
                name = value.strip()
            elif field == "data":
                data.append(value.removeprefix(" "))
        if name and data and not self.over.done():
            told: dict[str, Any] = json.loads("\n".join(data))
            if self._hear(name, told):
                self._settle(told)

    def _settle(self, told: dict[str, Any] | None) -> None:
        if not self.over.done():
            self.over.set_result(told)

    @property
    def _producer(self) -> Any:
        return self.transport
