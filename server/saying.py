"""What is said on one TCP connection: each message a frame, and those that belong together one write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from proto import atelier_pb2 as pb
from server.door_counts import DoorCounts
from server.errors import Code, Refusal
from server.session import Session
from server.wire.connection import Connection, LocalProtocolError
from server.wire.telling import encode_error

log = structlog.get_logger("atelier.tcp")

MAX_GATHERED = 4096  # bytes of a frame that is written together with others


class Saying:
    """While the `session` says anything. The `transport` is given when there is one."""

    def __init__(self, wire: Connection, session: Session, counts: DoorCounts, session_id: str) -> None:
        self._wire = wire
        self._session = session
        self._counts = counts
        self._session_id = session_id
        self._gathered: list[bytes] | None = None  # frames that are to be written as one
        self.transport: Any = None

    def say(self, envelope: pb.Envelope) -> None:
        """One message, now or with the others that are being gathered."""
        if not self._session.says:
            return
        try:
            frame = self._wire.send(envelope)
        except LocalProtocolError:  # an answer too large for a frame, say: its asker is told, nobody else notices
            log.exception("answer.unsayable", session=self._session_id, kind=envelope.WhichOneof("message"))
            refusal = Refusal(Code.INTERNAL_ERROR, "the server's answer cannot be sent; its log says why")
            frame = self._wire.send(encode_error(envelope.request_id, refusal))
        self._counts.sent_bytes += len(frame)
        if self._gathered is None:
            self.transport.write(frame)
            return
        self._gathered.append(frame)
        if len(frame) > MAX_GATHERED:  # it gains nothing by waiting for others, and would be held twice
            self.flush()
            self._gathered = []

    @contextmanager
    def gathering(self) -> Iterator[None]:
        """What is said meanwhile goes out together: hundreds of small writes would cost more than all the rest of it."""
        self._gathered = []
        try:
            yield
        finally:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered, and gather no more."""
        frames, self._gathered = self._gathered, None
        if frames:
            self.transport.write(b"".join(frames))
