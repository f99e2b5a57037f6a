"""The frames of every message, read and written as bytes: pika makes ten objects and as many calls of each.

Only what is whole and plain is read here. Whatever else comes is pika's to read, or to refuse.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from pika import BasicProperties
from pika.data import encode_short_string

from server.doors.amqp.broker import Delivery, Properties
from server.doors.amqp.pika_messages import properties_of

_METHOD, _HEADER, _BODY = 1, 2, 3
_END = 0xCE
_ENDS = bytes([_END])
_AROUND = 8  # bytes of a frame beside what is in it
_PROTOCOL = b"AMQP"  # what a broker of another version begins with, in place of a frame

_PUBLISH, _DELIVER, _ACK, _NACK = 60 << 16 | 40, 60 << 16 | 60, 60 << 16 | 80, 60 << 16 | 120
_BASIC = 60

_HEAD = struct.Struct(">BHL")  # kind, channel, size
_NUMBER = struct.Struct(">L")  # class and method
_TAG = struct.Struct(">QB")  # tag, flags
_CONTENT = struct.Struct(">HHQ")  # class, weight, size of the body
_FLAGS = struct.Struct(">H")
_TIME = struct.Struct(">Q")
_ACKNOWLEDGED = struct.Struct(">BHLLQBB")

_MORE_FLAGS, _HEADERS = 1, 1 << 13
_TEXTS: Mapping[int, str] = {
    1 << 15: "content_type", 1 << 14: "content_encoding", 1 << 10: "correlation_id", 1 << 9: "reply_to", 1 << 8: "",
    1 << 7: "message_id", 1 << 5: "type", 1 << 4: "", 1 << 3: "app_id", 1 << 2: "",
}  # fmt: skip
"""Properties that are texts, by their flag; those without a name are left out."""
_NUMBERS: Mapping[int, str] = {1 << 12: "", 1 << 11: "priority"}
_WHEN = 1 << 6


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The broker's word about what was published as number `tag`; if `several`, about all before it too."""

    tag: int
    several: bool
    refused: bool


@dataclass(frozen=True, slots=True)
class Given:
    """A message for the consumer of this name."""

    consumer: str
    delivery: Delivery


class Lane(Protocol):
    """A channel whose messages go past pika."""

    def hear(self, what: Given | Confirmation) -> bool:
        """Whether it was for this channel; else pika is to hear it."""
        ...


def size(buffer: bytes, at: int) -> int:
    """Bytes of the frame that begins here; 0: that is not known yet."""
    if buffer.startswith(_PROTOCOL, at):
        return len(buffer) - at
    if len(buffer) - at < _HEAD.size:
        return 0
    return int(_HEAD.unpack_from(buffer, at)[2]) + _AROUND


def channel(buffer: bytes, at: int) -> int:
    """Of the frame that begins here, if it is a method's and whole; else 0, which is the connection's own."""
    if len(buffer) - at < _HEAD.size:
        return 0
    kind, number, length = _HEAD.unpack_from(buffer, at)
    end = at + length + _AROUND
    return number if kind == _METHOD and end <= len(buffer) and buffer[end - 1] == _END else 0


def read(buffer: bytes, at: int) -> tuple[int, Given | Confirmation] | None:
    """What a method frame that `channel` knows says, and where the next frame begins; None: it is pika's to read."""
    start = at + _HEAD.size
    (method,) = _NUMBER.unpack_from(buffer, start)
    if method == _DELIVER:
        return _given(buffer, at)
    if method in (_ACK, _NACK):
        tag, flags = _TAG.unpack_from(buffer, start + 4)
        end = at + _HEAD.unpack_from(buffer, at)[2] + _AROUND
        return end, Confirmation(tag, bool(flags & 1), method == _NACK)
    return None


def _given(buffer: bytes, at: int) -> tuple[int, Given] | None:
    _, number, length = _HEAD.unpack_from(buffer, at)
    consumer, place = _short(buffer, at + _HEAD.size + 4)
    tag, redelivered = _TAG.unpack_from(buffer, place)
    exchange, place = _short(buffer, place + _TAG.size)
    routing_key, _ = _short(buffer, place)
    at += length + _AROUND
    about = _piece(buffer, at, _HEADER, number)
    if about is None or len(about) < _CONTENT.size + 2:
        return None
    _, _, wanted = _CONTENT.unpack_from(about)
    at += len(about) + _AROUND
    body = b""
    if wanted:
        whole = _piece(buffer, at, _BODY, number)
        if whole is None or len(whole) != wanted:  # the rest is in other frames, or still to come
            return None
        body = whole
        at += wanted + _AROUND
    properties = described_by(about[_CONTENT.size :])
    if properties is None:
        return None
    delivery = Delivery(
        tag=tag,
        body=body,
        properties=properties,
        exchange=exchange,
        routing_key=routing_key,
        redelivered=bool(redelivered),
    )
    return at, Given(consumer, delivery)


def _piece(buffer: bytes, at: int, kind: int, number: int) -> bytes | None:
    """What is in the frame that begins here, if it is of this kind and channel, and whole."""
    start = at + _HEAD.size
    if len(buffer) <= start:
        return None
    found, of, length = _HEAD.unpack_from(buffer, at)
    end = start + length
    if found != kind or of != number or len(buffer) <= end or buffer[end] != _END:
        return None
    return buffer[start:end]


def _short(buffer: bytes, at: int) -> tuple[str, int]:
    end = at + 1 + buffer[at]
    text = buffer[at + 1 : end]
    try:
        return text.decode(), end
    except UnicodeDecodeError:
        return text.decode("latin-1"), end


def described_by(about: bytes) -> Properties | None:
    """Properties from their flags on; None where they cannot be read."""
    (flags,) = _FLAGS.unpack_from(about)
    try:
        if flags & (_HEADERS | _MORE_FLAGS):
            return properties_of(BasicProperties().decode(about))
        return _plain(about)
    except Exception:  # pika's own, and its bugs': the message is taken without them
        return None


@lru_cache(256)
def _plain(about: bytes) -> Properties:
    """Those without headers. Of one publisher they are mostly the same."""
    (flags,) = _FLAGS.unpack_from(about)
    texts: dict[str, str] = {}
    numbers: dict[str, int] = {}
    at = _FLAGS.size
    for bit in range(15, 1, -1):
        flag = 1 << bit
        if not flags & flag:
            continue
        if flag in _TEXTS:
            texts[_TEXTS[flag]], at = _short(about, at)
        elif flag == _WHEN:
            (numbers["timestamp"],) = _TIME.unpack_from(about, at)
            at += _TIME.size
        else:
            numbers[_NUMBERS[flag]] = about[at]
            at += 1
    if at != len(about):
        raise ValueError("properties of another length")
    texts.pop("", None)
    numbers.pop("", None)
    return Properties(**texts, **numbers)  # type: ignore[arg-type]  # by their names


def acknowledgement(number: int, tag: int) -> bytes:
    """Of one delivery, on a channel."""
    return _ACKNOWLEDGED.pack(_METHOD, number, 13, _ACK, tag, 0, _END)


def publication(
    number: int, exchange: str, routing_key: str, body: bytes, properties: bytes, *, mandatory: bool, most: int
) -> bytes:
    """A message on a channel, at most so many bytes of its body in one frame. Raises pika's ShortStringTooLong."""
    names: list[bytes] = []
    encode_short_string(names, exchange)
    encode_short_string(names, routing_key)
    method = b"".join((_NUMBER.pack(_PUBLISH), b"\0\0", *names, b"\1" if mandatory else b"\0"))
    head = _CONTENT.pack(_BASIC, 0, len(body)) + properties
    frames = [_frame(_METHOD, number, method), _frame(_HEADER, number, head)]
    for start in range(0, len(body), most):
        frames.append(_frame(_BODY, number, body[start : start + most]))
    return b"".join(frames)


def _frame(kind: int, number: int, what: bytes) -> bytes:
    return b"".join((_HEAD.pack(kind, number, len(what)), what, _ENDS))
