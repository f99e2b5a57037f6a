"""One connection's side of the protocol, without I/O: bytes in, events out; messages in, bytes out.

    HANDSHAKE --hello, error--> HANDSHAKE --welcome--> OPEN --requests, answers--> OPEN --goodbye--> CLOSED

One table, `TRANSITIONS`, says who may say what when, and serves both ends: each looks up what it says itself (an
illegal pair raises LocalProtocolError) and what it hears (an illegal pair is `Rejected`, and the connection lives on).
When the stream of frames itself is broken, `next_event` raises StreamBroken; the caller says so and closes.

    connection = Connection(Role.SERVER, handshake_frame_bytes=4096, open_frame_bytes=1048576)
    connection.receive_data(read)
    while (event := connection.next_event()) is not None:
        ...
        transport.write(connection.send(answer))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Final

from google.protobuf.message import DecodeError, Message

from proto import atelier_pb2 as pb
from server.errors import Code, Refusal
from server.wire.framing import FrameReader, encode_frame

PROTOCOL_VERSION: Final = 1


class LocalProtocolError(Exception):
    """Our own mistake: we tried to say what the protocol does not let us say now. The peer has not seen anything."""


class Role(Enum):
    """Which end of the connection this is."""

    CLIENT = "client"
    SERVER = "server"


class State(Enum):
    """How far the connection is; both ends go through the same states."""

    HANDSHAKE = "handshake"
    OPEN = "open"
    CLOSED = "closed"


REQUESTS: Final = frozenset(
    {
        "ping",
        "submit",
        "predict",
        "cancel",
        "watch",
        "get_job",
        "list_models",
        "get_server_status",
        "open_live",
        "live_frame",
        "close_live",
        "watch_live",
        "connect_udp",
    },
)
ANSWERS: Final = frozenset(
    {
        "pong",
        "error",
        "accepted",
        "progress",
        "preview",
        "output",
        "chunk",
        "result",
        "failed",
        "canceled",
        "cancel_requested",
        "job",
        "models",
        "server_status",
        "live_opened",
        "live_result",
        "live_closed",
        "udp_address",
    },
)

# state -> who speaks -> what may be said -> the state after it
TRANSITIONS: Final[Mapping[State, Mapping[Role, Mapping[str, State]]]] = MappingProxyType(
    {
        State.HANDSHAKE: {
            Role.CLIENT: {"hello": State.HANDSHAKE},
            Role.SERVER: {"error": State.HANDSHAKE, "welcome": State.OPEN, "goodbye": State.CLOSED},
        },
        State.OPEN: {
            Role.CLIENT: dict.fromkeys(REQUESTS, State.OPEN),
            Role.SERVER: dict.fromkeys(ANSWERS, State.OPEN) | {"goodbye": State.CLOSED},
        },
        State.CLOSED: {Role.CLIENT: {}, Role.SERVER: {}},
    },
)

KINDS: Final[Mapping[Role, frozenset[str]]] = MappingProxyType(
    {Role.CLIENT: REQUESTS | {"hello"}, Role.SERVER: ANSWERS | {"welcome", "goodbye"}},
)  # everything that an end can ever say

# What may carry request_id 0: one Hello is under way at a time, and the server's own remarks belong to no request.
UNNUMBERED: Final = frozenset({"hello", "welcome", "error", "goodbye"})

_PEER: Final = {Role.CLIENT: Role.SERVER, Role.SERVER: Role.CLIENT}
_parse = pb.Envelope.FromString


@dataclass(frozen=True, slots=True)
class Received:
    """A message that the peer may say now: `kind` is its name in Envelope's oneof ("submit"), `message` that member."""

    request_id: int
    kind: str
    message: Message


@dataclass(frozen=True, slots=True)
class Rejected:
    """A whole frame that cannot be taken; the connection lives on. `request_id` is 0 where it is not known."""

    request_id: int
    refusal: Refusal


class Connection:
    """The protocol state of one end of one connection.

    `handshake_frame_bytes` bounds a frame's body in both directions until Welcome, `open_frame_bytes` after it; a client
    sends no more than the server's Welcome allows.
    """

    __slots__ = ("_hears", "_open_frame_bytes", "_reader", "_role", "_says", "_send_limit", "_state")

    def __init__(self, role: Role, *, handshake_frame_bytes: int, open_frame_bytes: int) -> None:
        self._role = role
        self._open_frame_bytes = open_frame_bytes
        self._reader = FrameReader(handshake_frame_bytes)
        self._send_limit = handshake_frame_bytes
        self._enter(State.HANDSHAKE)

    @property
    def role(self) -> Role:
        """Which end this is."""
        return self._role

    @property
    def state(self) -> State:
        """How far the connection is."""
        return self._state

    @property
    def frame_begun(self) -> bool:
        """Whether the peer owes us the rest of a frame."""
        return self._reader.begun

    def receive_data(self, data: bytes) -> None:
        """Take what was read from the stream. After the connection is closed or broken it is dropped."""
        self._reader.feed(data)

    def next_event(self) -> Received | Rejected | None:
        """What the peer said next, or None when more bytes are needed. Raises StreamBroken."""
        frame = self._reader.next_frame()
        if frame is None:
            return None
        try:
            envelope = _parse(frame)
        except DecodeError:
            return Rejected(0, Refusal(Code.MALFORMED_MESSAGE, "the frame does not hold an Envelope"))
        kind = envelope.WhichOneof("message")
        request_id = envelope.request_id
        state = self._hears.get(kind)
        if state is None or (not request_id and kind not in UNNUMBERED):
            return Rejected(request_id, self._why_not(kind))
        message: Message = getattr(envelope, kind)
        if state is not self._state:
            self._follow(state, envelope)
        return Received(request_id, kind, message)

    def send(self, envelope: pb.Envelope) -> bytes:
        """`envelope` as a frame to write, once it is known that we may say it now. Raises LocalProtocolError."""
        kind = envelope.WhichOneof("message")
        state = self._says.get(kind)
        if state is None:
            raise LocalProtocolError(f"a {self._role.value} may not say {kind} when {self._state.value}")
        if not envelope.request_id and kind not in UNNUMBERED:
            raise LocalProtocolError(f"{kind} needs a request_id")
        body = envelope.SerializeToString()
        if len(body) > self._send_limit:
            raise LocalProtocolError(f"{kind} has {len(body)} bytes, the peer takes at most {self._send_limit}")
        if state is not self._state:
            self._follow(state, envelope)
        return encode_frame(body)

    def _follow(self, state: State, envelope: pb.Envelope) -> None:
        """Go where `envelope`, said or heard, leads."""
        self._enter(state)
        if state is State.OPEN:
            self._reader.max_frame_bytes = self._open_frame_bytes
            self._send_limit = self._open_frame_bytes
            if self._role is Role.CLIENT:
                self._send_limit = envelope.welcome.limits.max_frame_bytes or self._open_frame_bytes
        else:  # CLOSED: nothing leads back to the handshake
            self._reader.drop()

    def _enter(self, state: State) -> None:
        self._state = state
        self._says = TRANSITIONS[state][self._role]
        self._hears = TRANSITIONS[state][_PEER[self._role]]

    def _why_not(self, kind: str | None) -> Refusal:
        """Why the peer may not say `kind` now."""
        if kind is None:
            return Refusal(Code.UNKNOWN_MESSAGE, "the Envelope holds no message that this version knows")
        if kind in self._hears:
            return Refusal.invalid("request_id", "a number from 1 on", 0)
        if kind in REQUESTS and self._role is Role.SERVER:
            return Refusal(Code.HELLO_REQUIRED, f"{kind} has to wait until Hello is answered by Welcome")
        return Refusal(Code.UNEXPECTED_MESSAGE, f"{kind} is not for a {_PEER[self._role].value} to say now")
