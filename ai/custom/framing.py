"""What the server and a custom model's process say to one another: plain data with bytes beside it, never a pickle.

    frame   = uint32 size of the head | uint32 size of all parts | head | parts        (big-endian)
    head    = a JSON object in UTF-8; its "parts" are the sizes of the byte strings that follow, in order

Reading costs no copy of a part but its own. A size beyond its limit is refused before a byte of it is kept.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

_SIZES = struct.Struct(">II")
MAX_HEAD = 16 << 20  # bytes of JSON: beyond it somebody writes into the pipe who should not
_SIZE_LIMIT = 1 << 32


class Message(NamedTuple):
    """One of them."""

    head: Mapping[str, Any]
    parts: Sequence[bytes] = ()


class FramingError(Exception):
    """The bytes are no frames, or too large ones. Nothing that follows them can be read."""


def frame(head: Mapping[str, Any], parts: Sequence[bytes] = ()) -> bytes:
    """The bytes of a message. Raises FramingError for what no frame has room for, ValueError or TypeError for what is no JSON."""
    told = dict(head)
    if parts:
        told["parts"] = [len(part) for part in parts]
    text = json.dumps(told, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode()
    size = sum(map(len, parts))
    if len(text) > MAX_HEAD or size >= _SIZE_LIMIT:
        raise FramingError(f"{len(text) + size} bytes are too many for one message")
    return b"".join([_SIZES.pack(len(text), size), text, *parts])


class Frames:
    """Bytes in, messages out. `max_parts` is how many bytes the parts of one message may have."""

    def __init__(self, max_parts: int, max_head: int = MAX_HEAD) -> None:
        self._max_parts = max_parts
        self._max_head = max_head
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[Message]:
        """The messages that are whole with this. Raises FramingError."""
        self._buffer += data
        while (message := self._next()) is not None:
            yield message

    def _next(self) -> Message | None:
        if len(self._buffer) < _SIZES.size:
            return None
        head_size, parts_size = _SIZES.unpack_from(self._buffer)
        if head_size > self._max_head or parts_size > self._max_parts:
            raise FramingError(f"a message of {head_size} and {parts_size} bytes is too large")
        end = _SIZES.size + head_size + parts_size
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            text = bytes(view[_SIZES.size : _SIZES.size + head_size])
            body = bytes(view[_SIZES.size + head_size : end])
        del self._buffer[:end]
        return _read(text, body)


def _read(text: bytes, body: bytes) -> Message:
    try:
        head = json.loads(text)
    except ValueError as error:
        raise FramingError("a message is no JSON") from error
    sizes = head.pop("parts", []) if isinstance(head, dict) else None
    if (
        not isinstance(sizes, list)
        or any(type(size) is not int or size < 0 for size in sizes)
        or sum(sizes) != len(body)
    ):
        raise FramingError("a message is no object, or its parts are not as it says")
    parts, at = [], 0
    for size in sizes:
        parts.append(body[at : at + size])
        at += size
    return Message(head, parts)
