"""A client's end of one live session, which outlives a connection: on each new one it is opened again, as another session.

open_live → LiveOpened → LiveResult, LiveResult, … → LiveClosed, or refused, or the client is closed
             ↑_______ connection lost, and regained
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, Protocol

from bot.errors import ClientError, RefusedError, UnexpectedAnswerError
from bot.reconnecting import Reconnecting
from proto import atelier_pb2 as pb
from server.errors import Code
from server.wire.connection import LocalProtocolError
from server.wire.telling import decode_failure


class LiveHearer(Protocol):
    """Who follows a session. Called on the reactor's thread."""

    def live_opened(self, opened: pb.LiveOpened) -> None:
        """It is open, or open again: under another live_id, on a server that knows nothing of the one before."""
        ...

    def live_result(self, result: pb.LiveResult) -> None:
        """What became of a frame."""
        ...

    def live_over(self, error: Exception | None) -> None:
        """Nothing more will be heard; None where the server closed it in order. RefusedError, ClientError."""
        ...


class LiveHandle:
    """One session. `opened` is None while there is no connection, or no answer yet."""

    put_off = None  # whether one that is refused is asked for again, its hearer decides

    def __init__(self, asked: pb.OpenLive, hearer: LiveHearer, connection: Reconnecting) -> None:
        self._asked = asked
        self._hearer = hearer
        self._connection = connection
        self._numbers = itertools.count(1)
        self.opened: pb.LiveOpened | None = None
        self.openings = 0  # how often it was asked for
        self.over = False

    # For its owner

    def frame(self, captured_us: int, values: Sequence[float] = (), image: bytes = b"") -> pb.Envelope | None:
        """The session's next frame as a message to be sent (`Line.tell`); None while it is not open."""
        if self.opened is None or self.over:
            return None
        frame = pb.LiveFrame(
            live_id=self.opened.live_id,
            number=next(self._numbers),
            captured_us=captured_us,
            values=values,
            image=image,
        )
        return pb.Envelope(live_frame=frame)

    def send(self, captured_us: int, values: Sequence[float] = (), image: bytes = b"") -> bool:
        """Send the next frame; False while that cannot be done. Raises ClientError for one that the server takes none of."""
        envelope, line = self.frame(captured_us, values, image), self._connection.line
        if envelope is None or line is None:
            return False
        try:
            line.tell([envelope])
        except LocalProtocolError as error:
            raise ClientError(str(error)) from error
        return True

    def close(self) -> None:
        """Ask that it be ended; `live_over` follows."""
        line = self._connection.line
        if self.opened is not None and line is not None and not self.over:
            line.tell([pb.Envelope(close_live=pb.CloseLive(live_id=self.opened.live_id))])

    # As a conversation

    def opening(self) -> pb.Envelope:
        """OpenLive, on whichever connection."""
        self.opened = None
        self.openings += 1
        return pb.Envelope(open_live=self._asked)

    def hear(self, kind: str, message: Any) -> bool:
        """What the server says of it."""
        if kind == "live_result":
            self._hearer.live_result(message)
            return False
        if kind == "live_opened":
            self.opened = message
            self._hearer.live_opened(message)
            return False
        self._end(_end_of(kind, message))
        return True

    def fail(self, error: Exception) -> None:
        """There is no connection any more."""
        self._end(error)

    def _end(self, error: Exception | None) -> None:
        if not self.over:
            self.over, self.opened = True, None
            self._hearer.live_over(error)


def _end_of(kind: str, message: Any) -> Exception | None:
    if kind == "error":
        return RefusedError.told(decode_failure(message))
    if kind != "live_closed":
        return UnexpectedAnswerError(f"{kind} came where a live session was asked for")
    if message.code == Code.OK:
        return None
    return RefusedError.told(decode_failure(pb.Error(code=message.code, message=message.message)))
