"""What the server and the stream process say to one another: packed numbers, one message a tick and direction. Plain Python.

    message = uint32 size of the rest | uint8 kind | body              (in the machine's own byte order)

    to the process
    LOAD      the model's folder, UTF-8                                   is answered by LOADED or REFUSED
    TICK      uint32 tick | uint32 rows | uint64 session each | float32 dt each | inputs each (float32, or an image's bytes)
    FORGET    uint64 session each                                         their state is dropped

    from the process
    READY     nothing: it has begun
    LOADED    float64 seconds that it took
    REFUSED   why, UTF-8
    RAN       uint32 tick | uint32 rows | float64 seconds | uint8 outcome each | float32 values each

A process that reads something else ends; whoever hears something else ends the process.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

LOAD, TICK, FORGET = 1, 2, 3
READY, LOADED, REFUSED, RAN = 17, 18, 19, 20

FIT, UNFIT = 0, 1
"""A row's outcome: UNFIT gave what is no number, or made the model raise; its state begins anew."""

MAX_MESSAGE = 1 << 28  # bytes: 300 sessions of the largest images
_HEAD = struct.Struct("=IB")
_TICK = struct.Struct("=II")
_RAN = struct.Struct("=IId")
_SECONDS = struct.Struct("=d")


class PackingError(Exception):
    """The bytes are not what is spoken here. Nothing that follows them can be read."""


class Packed(NamedTuple):
    """One message."""

    kind: int
    body: bytes


class Tick(NamedTuple):
    """The rows of a TICK; `inputs` are of all rows, one after the other."""

    number: int
    sessions: Sequence[int]
    dt: Sequence[float]
    inputs: bytes


class Ran(NamedTuple):
    """What a tick gave; `values` are of all rows, one after the other."""

    number: int
    seconds: float
    outcomes: bytes
    values: Sequence[float]


def pack(kind: int, *parts: bytes) -> bytes:
    """A message's bytes."""
    return b"".join((_HEAD.pack(1 + sum(map(len, parts)), kind), *parts))


def pack_tick(number: int, sessions: Sequence[int], dt: Sequence[float], inputs: Sequence[bytes]) -> bytes:
    """A TICK; `inputs` are packed by row."""
    head = _TICK.pack(number, len(sessions))
    return pack(TICK, head, array("Q", sessions).tobytes(), array("f", dt).tobytes(), *inputs)


def pack_forget(sessions: Sequence[int]) -> bytes:
    """A FORGET."""
    return pack(FORGET, array("Q", sessions).tobytes())


def pack_loaded(seconds: float) -> bytes:
    """A LOADED."""
    return pack(LOADED, _SECONDS.pack(seconds))


def pack_ran(number: int, seconds: float, outcomes: bytes, values: bytes) -> bytes:
    """A RAN; `values` are float32."""
    return pack(RAN, _RAN.pack(number, len(outcomes), seconds), outcomes, values)


def read_tick(body: bytes, input_bytes: int) -> Tick:
    """Raises PackingError where it is not as long as it says."""
    if len(body) < _TICK.size:
        raise PackingError("a TICK is too short")
    number, rows = _TICK.unpack_from(body)
    dt_at = _TICK.size + 8 * rows
    inputs_at = dt_at + 4 * rows
    if len(body) != inputs_at + rows * input_bytes:
        raise PackingError(f"a TICK of {rows} rows has {len(body)} bytes")
    return Tick(number, _array("Q", body[_TICK.size : dt_at]), _array("f", body[dt_at:inputs_at]), body[inputs_at:])


def read_forget(body: bytes) -> Sequence[int]:
    """The sessions. Raises PackingError."""
    sessions: Sequence[int] = _array("Q", body)
    return sessions


def read_loaded(body: bytes) -> float:
    """The seconds. Raises PackingError."""
    if len(body) != _SECONDS.size:
        raise PackingError("a LOADED has another length")
    seconds: float = _SECONDS.unpack(body)[0]
    return seconds


def read_ran(body: bytes, outputs: int) -> Ran:
    """Raises PackingError where it is not as long as it says."""
    if len(body) < _RAN.size:
        raise PackingError("a RAN is too short")
    number, rows, seconds = _RAN.unpack_from(body)
    values_at = _RAN.size + rows
    if len(body) != values_at + 4 * rows * outputs:
        raise PackingError(f"a RAN of {rows} rows has {len(body)} bytes")
    return Ran(number, seconds, body[_RAN.size : values_at], _array("f", body[values_at:]))


class Messages:
    """Bytes in, messages out."""

    def __init__(self, largest: int = MAX_MESSAGE) -> None:
        self._largest = largest
        self._buffer = bytearray()

    def receive(self, data: bytes) -> Iterator[Packed]:
        """Those that are whole with this. Raises PackingError."""
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            size, kind = _HEAD.unpack_from(self._buffer)
            if not 1 <= size <= self._largest:
                raise PackingError(f"a message of {size} bytes")
            if len(self._buffer) < 4 + size:
                return
            body = bytes(memoryview(self._buffer)[_HEAD.size : 4 + size])
            del self._buffer[: 4 + size]
            yield Packed(kind, body)


def _array(kind: str, data: bytes) -> Any:
    made: array[Any] = array(kind)
    try:
        made.frombytes(data)
    except ValueError:
        raise PackingError("numbers are cut short") from None
    return made
