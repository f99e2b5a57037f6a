"""A client of the TCP door that blocks: asks one thing after the other, and tells what has no answer."""

from __future__ import annotations

import itertools
import socket
import struct
from typing import Any

from bench.callers import TOKEN, WrongReply, frame, receive
from proto import atelier_pb2 as pb


class Talker:
    """A TCP connection that asks one thing after the other."""

    def __init__(self, port: int) -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), 60.0)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._numbers = itertools.count(2)
        hello = pb.Hello(protocol_version=1, token=TOKEN, client_name="bench")
        self._say(1, pb.Envelope(hello=hello))
        self._answer(1)

    def ask(self, **message: Any) -> pb.Envelope:
        """One request's first answer; what answers others is passed over. Raises WrongReply."""
        number = next(self._numbers)
        self._say(number, pb.Envelope(**message))
        answer = self._answer(number)
        if answer.WhichOneof("message") == "error":
            raise WrongReply(f"{answer.error.message} ({answer.error.code})")
        return answer

    def tell(self, envelopes: list[pb.Envelope]) -> None:
        """Requests without an answer, in one write."""
        for envelope in envelopes:
            envelope.request_id = next(self._numbers)
        self.connection.sendall(b"".join(map(frame, envelopes)))

    def close(self) -> None:
        """Hang up."""
        self.connection.close()

    def next(self) -> pb.Envelope:
        """Whatever comes next."""
        size: int = struct.unpack(">I", receive(self.connection, 4))[0]
        return pb.Envelope.FromString(receive(self.connection, size))

    def _say(self, number: int, envelope: pb.Envelope) -> None:
        envelope.request_id = number
        self.connection.sendall(frame(envelope))

    def _answer(self, number: int) -> pb.Envelope:
        while (answer := self.next()).request_id != number:
            pass
        return answer
