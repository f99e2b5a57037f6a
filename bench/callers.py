"""One connection of the load client, for each way a Ping can travel: bytes in, the next bytes to write out.

The client shares the machine with the server, so all it can prepare is prepared: a ring of requests and, for each, how its
answer must begin. Still every answer is taken apart as far as its framing needs, and compared with the question.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import Protocol

from proto import atelier_pb2 as pb

RING = 64  # questions that differ, so that a late or a doubled answer is noticed
TOKEN = "bench-token-of-no-secrecy"
PLAUSIBLE = 60_000_000  # microseconds that the server's clock may be away from ours: it is the same one
GRPC_PATH = "/atelier.v1.Pinger/Ping"
HTTP_PATH = "/ping"


class WrongReply(Exception):
    """The server did not answer what was asked."""


class Caller(Protocol):
    """A connection in a closed loop: a question is written when the answer to the last one is whole."""

    answered: int

    def open(self, connection: socket.socket) -> None:
        """Do what has to be done once. The socket blocks."""
        ...

    def first(self) -> bytes:
        """The first question."""
        ...

    def take(self, data: bytes) -> bytes:
        """What to write because of `data`: the next question, or nothing yet. Raises WrongReply."""
        ...

    def check_last(self) -> None:
        """Take the newest answer wholly apart. Raises WrongReply."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A Ping, how its Pong begins (all but the server's time) and how long it is."""

    ping: bytes
    pong_begins: bytes
    pong_size: int


def questions(connection: int) -> list[Question]:
    """The ring of one connection; no two connections ask the same."""
    now = time.time_ns() // 1000
    made = []
    for turn in range(RING):
        client_time = now + connection * RING + turn
        pong = pb.Pong(client_time_us=client_time, server_time_us=now).SerializeToString()
        begins = pong[: len(pb.Pong(client_time_us=client_time).SerializeToString()) + 1]  # and the next field's key
        made.append(Question(pb.Ping(client_time_us=client_time).SerializeToString(), begins, len(pong)))
    return made


def check_pong(pong: pb.Pong) -> None:
    """Raise WrongReply for a server time that cannot be."""
    if abs(pong.server_time_us - time.time_ns() // 1000) > PLAUSIBLE:
        raise WrongReply(f"the server's time is {pong.server_time_us}")


class AtelierCaller:
    """Frames of Envelopes."""

    def __init__(self, connection: int) -> None:
        self.answered = 0
        self._held = b""
        self._last = b""
        self._ring: list[tuple[bytes, bytes, int]] = []
        for turn, question in enumerate(questions(connection)):
            request_id = 128 + turn  # two bytes on the wire
            asked = pb.Envelope(request_id=request_id, ping=pb.Ping.FromString(question.ping))
            # An answer with a time as long as the one to come; the bytes up to that time are what must come.
            like = pb.Pong(client_time_us=asked.ping.client_time_us, server_time_us=asked.ping.client_time_us)
            answer = frame(pb.Envelope(request_id=request_id, pong=like))
            time_size = question.pong_size - len(question.pong_begins)
            self._ring.append((frame(asked), answer[:-time_size], len(answer)))

    def open(self, connection: socket.socket) -> None:
        """Hello, Welcome."""
        hello = pb.Hello(protocol_version=1, token=TOKEN, client_name="bench")
        connection.sendall(frame(pb.Envelope(request_id=1, hello=hello)))
        size: int = struct.unpack(">I", receive(connection, 4))[0]
        answer = pb.Envelope.FromString(receive(connection, size))
        if answer.WhichOneof("message") != "welcome":
            raise WrongReply(str(answer))

    def first(self) -> bytes:
        """The first Ping."""
        return self._ring[0][0]

    def take(self, data: bytes) -> bytes:
        """The next Ping."""
        if self._held:
            data = self._held + data
        _, begins, size = self._ring[self.answered % RING]
        if len(data) < size:
            self._held = data
            return b""
        if len(data) != size or not data.startswith(begins):
            raise WrongReply(data.hex())
        self._held = b""
        self._last = data
        self.answered += 1
        return self._ring[self.answered % RING][0]

    def check_last(self) -> None:
        """Parse it."""
        check_pong(pb.Envelope.FromString(self._last[4:]).pong)


class HttpCaller:
    """HTTP/1.1 with keep-alive; the messages are the bodies."""

    def __init__(self, connection: int) -> None:
        self.answered = 0
        self._held = b""
        self._last = b""
        self._ring = [(_http_request(q.ping), q.pong_begins, q.pong_size) for q in questions(connection)]

    def open(self, connection: socket.socket) -> None:
        """HTTP has no greeting."""

    def first(self) -> bytes:
        """The first POST."""
        return self._ring[0][0]

    def take(self, data: bytes) -> bytes:
        """The next POST."""
        if self._held:
            data = self._held + data
        _, begins, size = self._ring[self.answered % RING]
        body_at = data.find(b"\r\n\r\n") + 4
        if body_at == 3 or len(data) < body_at + size:
            self._held = data
            return b""
        whole = len(data) == body_at + size and data.startswith(b"HTTP/1.1 200 ")
        if not whole or not data.startswith(begins, body_at):
            raise WrongReply(repr(data))
        self._held = b""
        self._last = data[body_at:]
        self.answered += 1
        return self._ring[self.answered % RING][0]

    def check_last(self) -> None:
        """Parse the body."""
        check_pong(pb.Pong.FromString(self._last))


class GrpcCaller:
    """gRPC over HTTP/2 (RFC 9113, 7541; grpc's PROTOCOL-HTTP2.md), as much of it as one unary call at a time takes.

    Header names and values go into HPACK's dynamic table with the first call, and are named by a byte each in every later
    one, as grpc's own clients do it. Nothing is done that a server may not rely on: settings and pings are
    acknowledged, and the send window is watched.
    """

    _HEADERS = (  # index of the name in HPACK's static table (0: spelled out), name, value
        (4, "", GRPC_PATH),
        (1, "", "127.0.0.1"),
        (31, "", "application/grpc"),
        (0, "te", "trailers"),
        (58, "", "grpc-bench"),
    )
    _POST, _HTTP = 0x83, 0x86  # ":method: POST" and ":scheme: http" in the static table
    _DYNAMIC = 62  # where the dynamic table begins, the newest entry first

    def __init__(self, connection: int) -> None:
        self.answered = 0
        self._held = b""
        self._last = b""
        self._got_message = False
        self._window = 65_535
        self._stream = 1
        self._ring = [
            (_h2_data(q.ping), _grpc_prefix(q.pong_size) + q.pong_begins, q.pong_size + 5)
            for q in questions(connection)
        ]
        told = b"".join(_literal(index, name, value) for index, name, value in self._HEADERS)
        entries = range(self._DYNAMIC + len(self._HEADERS) - 1, self._DYNAMIC - 1, -1)
        self._first_headers = bytes([self._POST, self._HTTP]) + told
        self._headers = bytes([self._POST, self._HTTP, *(0x80 | entry for entry in entries)])

    def open(self, connection: socket.socket) -> None:
        """The preface, empty settings, and a window that needs no opening later."""
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        connection.sendall(preface + _h2_frame(4, 0, 0, b"") + _h2_frame(8, 0, 0, struct.pack(">I", 2**31 - 65_536)))

    def first(self) -> bytes:
        """The first call."""
        return self._call(self._first_headers)

    def take(self, data: bytes) -> bytes:
        """Acknowledgements, and the next call when the last one is over."""
        if self._held:
            data = self._held + data
        reply = b""
        at = 0
        while len(data) >= at + 9:
            head, kind, flags, stream = _H2_HEAD.unpack_from(data, at)
            length = (head[0] << 16) | (head[1] << 8) | head[2]
            end = at + 9 + length
            if end > len(data):
                break
            if kind == 0:
                self._message(data[at + 9 : end], stream)
            elif kind == 1:
                if flags & 1:
                    reply += self._over(stream)
            else:
                reply += self._housekeeping(kind, flags, stream, data[at + 9 : end])
            at = end
        self._held = data[at:]
        return reply

    def check_last(self) -> None:
        """Parse it."""
        check_pong(pb.Pong.FromString(self._last[5:]))

    def _call(self, headers: bytes) -> bytes:
        data = self._ring[self.answered % RING][0]
        self._window -= len(data)
        if self._window < 0:
            raise WrongReply("the server did not open its window")
        stream = struct.pack(">I", self._stream)
        size = len(headers)
        return (
            bytes((0, 0, size, 1, 4)) + stream + headers + bytes((0, 0, len(data), 0, 1)) + stream + data
        )  # HEADERS with END_HEADERS, DATA with END_STREAM

    def _message(self, payload: bytes, stream: int) -> None:
        _, begins, size = self._ring[self.answered % RING]
        if stream != self._stream or len(payload) != size or not payload.startswith(begins):
            raise WrongReply(payload.hex())
        self._got_message = True
        self._last = payload

    def _over(self, stream: int) -> bytes:
        if stream != self._stream or not self._got_message:
            raise WrongReply(f"the call on stream {stream} ended without an answer")
        self._got_message = False
        self.answered += 1
        self._stream += 2
        return self._call(self._headers)

    def _housekeeping(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        if kind in (4, 6):  # SETTINGS, PING
            return b"" if flags & 1 else _h2_frame(kind, 1, 0, payload if kind == 6 else b"")
        if kind == 8 and stream == 0:  # WINDOW_UPDATE
            self._window += int.from_bytes(payload, "big")
        elif kind in (3, 7):  # RST_STREAM, GOAWAY
            raise WrongReply(f"HTTP/2 frame {kind} on stream {stream}: {payload!r}")
        return b""


CALLERS: dict[str, type[AtelierCaller] | type[HttpCaller] | type[GrpcCaller]] = {
    "atelier": AtelierCaller,
    "http": HttpCaller,
    "grpc": GrpcCaller,
}


def frame(envelope: pb.Envelope) -> bytes:
    """An Envelope as Atelier's wire has it."""
    body = envelope.SerializeToString()
    return struct.pack(">I", len(body)) + body


def receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes from a blocking socket."""
    received = b""
    while len(received) < size:
        data = connection.recv(size - len(received))
        if not data:
            raise WrongReply("the server closed the connection")
        received += data
    return received


_H2_HEAD = struct.Struct(">3sBBI")


def _http_request(body: bytes) -> bytes:
    head = (
        f"POST {HTTP_PATH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-protobuf\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def _h2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def _grpc_prefix(size: int) -> bytes:
    return b"\0" + struct.pack(">I", size)


def _h2_data(message: bytes) -> bytes:
    return _grpc_prefix(len(message)) + message


def _literal(index: int, name: str, value: str) -> bytes:
    """A header with incremental indexing, not Huffman-coded (RFC 7541, 6.2.1)."""
    spelled = b"" if index else _string(name)
    return bytes([0x40 | index]) + spelled + _string(value)


def _string(text: str) -> bytes:
    return bytes([len(text)]) + text.encode("ascii")
