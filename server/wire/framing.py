"""Cuts a byte stream into frames: a 4-byte big-endian length, then that many bytes.

    stream = *frame
    frame  = length body        ; length counts the body alone; 0 is a whole, empty frame

Knows nothing of what a frame holds, and does no I/O.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from server.errors import Code, StreamBroken

_PREFIX: Final = Struct(">I")
PREFIX_BYTES: Final = _PREFIX.size

_pack_prefix: Final = _PREFIX.pack
_unpack_prefix: Final = _PREFIX.unpack_from


def encode_frame(body: bytes) -> bytes:
    """`body` as one frame."""
    return _pack_prefix(len(body)) + body


class FrameReader:
    """Takes reads of any size and hands out the bodies of whole frames.

    A length over `max_frame_bytes` breaks the stream on its prefix, before its body is kept: that `next_frame` and every
    later one raises, and what is fed is dropped. A caller that asks for frames until None after each read never makes the
    reader hold more than one incomplete frame (`max_frame_bytes` + 4 bytes) and that read.
    """

    __slots__ = ("_broken_by", "_deaf", "_held", "_offset", "max_frame_bytes")

    def __init__(self, max_frame_bytes: int) -> None:
        self.max_frame_bytes = max_frame_bytes  # may be changed between frames; judges every prefix not yet passed
        # The read itself while whole frames are cut out of it (no copy), a bytearray once an incomplete frame has to
        # grow (appending costs amortised constant time, so feeding byte by byte stays linear).
        self._held: bytes | bytearray = b""
        self._offset = 0  # where in _held the next frame begins
        self._deaf = False  # what is fed is dropped
        self._broken_by = 0  # the length that broke the stream

    def feed(self, data: bytes) -> None:
        """Take what was read from the stream."""
        if self._deaf:
            return
        if not self._held:
            self._held = data
        else:
            self._growable().extend(data)

    def next_frame(self) -> bytes | None:
        """The body of the next whole frame, or None when more bytes are needed. Raises StreamBroken."""
        held = self._held
        offset = self._offset
        size = len(held)
        body_at = offset + PREFIX_BYTES
        if body_at > size:
            self._wait()
            return None
        length: int = _unpack_prefix(held, offset)[0]
        if length > self.max_frame_bytes:
            self.drop()
            self._broken_by = length
            raise self._broken()
        end = body_at + length
        if end > size:
            self._wait()
            return None
        if end == size:
            self._held = b""
            self._offset = 0
        else:
            self._offset = end
        return held[body_at:end] if type(held) is bytes else bytes(memoryview(held)[body_at:end])

    def drop(self) -> None:
        """Forget what is held, a broken stream too, and drop whatever is fed from now on."""
        self._held = b""
        self._offset = 0
        self._broken_by = 0
        self._deaf = True

    @property
    def begun(self) -> bool:
        """Whether bytes of an incomplete frame, its prefix included, are held; whole frames not asked for do not count."""
        held, offset = self._held, self._offset
        while offset + PREFIX_BYTES <= len(held):
            end: int = offset + PREFIX_BYTES + _unpack_prefix(held, offset)[0]
            if end > len(held):
                return True
            offset = end
        return offset < len(held)

    @property
    def held_bytes(self) -> int:
        """How many bytes the reader keeps in memory."""
        return len(self._held)

    def _wait(self) -> None:
        """Make ready for more bytes of a frame. Raises StreamBroken when there will be none."""
        if self._broken_by:
            raise self._broken()
        if self._offset:
            self._growable()  # lets go of the frames already handed out

    def _growable(self) -> bytearray:
        """What is held, from the next frame on, as a bytearray."""
        held = self._held
        if type(held) is bytearray:
            del held[: self._offset]  # moves the start, not the bytes
        else:
            held = self._held = bytearray(memoryview(held)[self._offset :])
        self._offset = 0
        return held

    def _broken(self) -> StreamBroken:
        limit = f"at most {self.max_frame_bytes} bytes"
        message = f"a frame must have {limit}, not {self._broken_by}"
        return StreamBroken(Code.FRAME_TOO_LARGE, message, limit=limit)
