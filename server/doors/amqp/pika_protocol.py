"""pika's Twisted protocol of one connection, kept in bounds.

- `loseConnection` waits until everything is written, so for ever if a peer is dead: the transport is cut off after a grace.
- A refused login is told as AMQPConnectionError without its cause; the broker's own words are kept.
- A header field that pika cannot decode (a time in milliseconds, an infinite number) ends the connection, and the broker then
  delivers the message again, for ever: such a message is taken without its properties.
- Of each frame it makes objects and calls, so that deliveries and confirmations go past it (`pika_frames`), where they are plain.
"""

from __future__ import annotations

import asyncio
import struct
from typing import Any, cast

import pika
import structlog
from pika.adapters import twisted_connection
from pika.frame import decode_frame
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from server.clock import Clock, Timer
from server.doors.amqp import pika_frames as frames
from server.doors.amqp.pika_errors import shielded, words

log = structlog.get_logger("atelier.amqp")

GRACE = 5.0  # seconds that the last bytes get to leave before a connection is cut

_HEADER_FRAME = 2
_UNDESCRIBED = struct.Struct(">HHQH")  # a header frame's class, weight, size of the body, and flags of properties: none


class Protocol(twisted_connection.TwistedProtocolConnection):  # type: ignore[misc]  # pika is not typed
    """pika's, with an end to its patience."""

    def __init__(self, clock: Clock, parameters: pika.ConnectionParameters) -> None:
        super().__init__(parameters, custom_reactor=clock)
        self._clock = clock
        self._cut_off: Timer | None = None
        self.problem = ""  # why it has ended, in the broker's own words where it said any
        self.opened = shielded(self.ready)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.lanes: dict[int, frames.Lane] = {}  # by the numbers of their channels
        self._connection: Any = self._impl
        self._connection._on_data_available = self._take

    def makeConnection(self, transport: Any) -> None:  # noqa: N802  # Twisted's name
        """Begin."""
        for switch in ("setTcpKeepAlive", "setTcpNoDelay"):
            if hasattr(transport, switch):
                getattr(transport, switch)(True)
        super().makeConnection(cast(Any, _Impatient(transport, self)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:  # noqa: N802  # Twisted's name
        """End."""
        if self._cut_off is not None and self._cut_off.active():
            self._cut_off.cancel()
        self.problem = words(self._impl._error or reason.value)  # pika forgets it for the transport's "closed cleanly"
        super().connectionLost(reason)
        self.ended.set_result(self.problem)

    def write(self, data: bytes) -> None:
        """Whole frames."""
        self._connection._output_marshaled_frames([data])

    @property
    def most_in_frame(self) -> int:
        """Bytes of a body."""
        return int(self._connection._body_max_length)

    def _take(self, data: bytes) -> None:
        """In place of pika's: what a lane knows goes its way, and the rest pika's, a frame at a time."""
        connection, at = self._connection, 0
        buffer = connection._frame_buffer + data
        connection._frame_buffer = b""
        while at < len(buffer):
            end = self._by_lane(buffer, at)
            if not end:
                length = frames.size(buffer, at)
                if not length or at + length > len(buffer):
                    break
                end = at + length
                _, read = frame(buffer[at:end])
                if not read:
                    break
                connection.bytes_received += length
                connection._process_frame(read)
            else:
                connection.bytes_received += end - at
            at = end
        connection._frame_buffer = buffer[at:]

    def _by_lane(self, buffer: bytes, at: int) -> int:
        """Where the next frame begins; 0 where no lane knew this one."""
        lane = self.lanes.get(frames.channel(buffer, at))
        if lane is None:
            return 0
        found = frames.read(buffer, at)
        return found[0] if found is not None and lane.hear(found[1]) else 0

    def abort(self) -> None:
        """Hang up at once; of a TLS connection that is gone, Twisted would not."""
        if self.transport is not None and not self.ended.done():
            cast(Any, self.transport).abortConnection()

    def cut_off_later(self) -> None:
        """Hang up after a grace, whatever is still to be written."""
        if self._cut_off is None and not self.ended.done():
            self._cut_off = self._clock.callLater(GRACE, self.abort)


class _Impatient:
    """A transport whose `loseConnection` comes to an end."""

    def __init__(self, transport: Any, protocol: Protocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def loseConnection(self) -> None:  # noqa: N802  # Twisted's name
        """Write what is to be written, for a while."""
        self._protocol.cut_off_later()
        self._transport.loseConnection()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def frame(buffer: bytes) -> tuple[int, Any]:
    """The first frame in a buffer, as pika reads it; a header frame that it cannot read, without its properties."""
    try:
        return cast(tuple[int, Any], decode_frame(buffer))
    except Exception:
        if not buffer or buffer[0] != _HEADER_FRAME:
            raise
        kind, channel, size = struct.unpack_from(">BHL", buffer)
        head = _UNDESCRIBED.pack(*_UNDESCRIBED.unpack_from(buffer, 7)[:3], 0)
        bare = struct.pack(">BHL", kind, channel, len(head)) + head + b"\xce"
        log.warning("amqp.header_unreadable", bytes=size)
        return 7 + size + 1, decode_frame(bare)[1]
