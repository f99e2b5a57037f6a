"""Datagrams of the UDP door, sealed and opened; both roles, no I/O (docs/udp.md, proto/atelier_udp.proto).

    key id (8, big-endian) | tag (16) | message
    tag = HMAC-SHA256(key, direction + key id + message), cut to 16 bytes; direction is "C" from the client, "S" from the server

What the server says to all subscribers alike is encoded once: key id and tag are 0 there.
"""

from __future__ import annotations

import hmac
from enum import Enum
from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from proto import atelier_udp_pb2 as udp

LARGEST = 1200  # bytes: below the 1,280 that every IPv6 path carries whole, headers included
ID_BYTES = 8
TAG_BYTES = 16  # half of SHA-256's: to guess one is still 2^128
HEADER = ID_BYTES + TAG_BYTES
ROOM = LARGEST - HEADER
TO_ALL = bytes(HEADER)
KEY_BYTES = 32

M = TypeVar("M", bound=Message)


class Direction(Enum):
    """Who signs: what one side has said can never be sent back to it as the other's."""

    CLIENT = b"C"
    SERVER = b"S"


class DatagramTooLarge(ValueError):
    """A message of ours that no datagram has room for."""


def seal(message: Message, direction: Direction, key_id: int, key: bytes) -> bytes:
    """A signed datagram. Raises DatagramTooLarge."""
    head, body = key_id.to_bytes(ID_BYTES, "big"), _body(message)
    return b"".join((head, _tag(direction, head, body, key), body))


def to_all(message: udp.ServerDatagram) -> bytes:
    """A datagram for all subscribers alike. Raises DatagramTooLarge."""
    return TO_ALL + _body(message)


def key_id_of(datagram: bytes) -> int | None:
    """The id of the key that it says it is signed with; None for what is too short or too long to be one."""
    if not HEADER < len(datagram) <= LARGEST:
        return None
    return int.from_bytes(datagram[:ID_BYTES], "big")


def is_signed(datagram: bytes, direction: Direction, key: bytes) -> bool:
    """Whether `key` made its tag; compared in constant time."""
    tag = _tag(direction, datagram[:ID_BYTES], datagram[HEADER:], key)
    return hmac.compare_digest(datagram[ID_BYTES:HEADER], tag)


def read_client(datagram: bytes) -> udp.ClientDatagram | None:
    """What a client said; None where it says nothing that this version knows."""
    return _read(datagram, udp.ClientDatagram())


def read_server(datagram: bytes) -> udp.ServerDatagram | None:
    """What the server said; None where it says nothing that this version knows."""
    return _read(datagram, udp.ServerDatagram())


def _read(datagram: bytes, into: M) -> M | None:
    try:
        into.ParseFromString(datagram[HEADER:])
    except DecodeError:
        return None
    return into if into.WhichOneof("message") else None


def _body(message: Message) -> bytes:
    body = message.SerializeToString()
    if len(body) > ROOM:
        raise DatagramTooLarge(f"{len(body)} bytes, of which a datagram has room for {ROOM}")
    return body


def _tag(direction: Direction, head: bytes, body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, direction.value + head + body, "sha256")[:TAG_BYTES]
