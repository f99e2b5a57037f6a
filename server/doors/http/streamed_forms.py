"""multipart/form-data read as it comes: one large file goes on piece by piece, the rest is kept in memory.

The grammar is `server.doors.http.multipart`'s, where a whole body is at hand.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from server.doors.http.multipart import (
    MAX_FIELD_BYTES,
    MAX_PART_HEADER_BYTES,
    MAX_PARTS,
    Part,
    boundary_of,
    malformed,
    part_of,
)
from server.errors import Refusal

MAX_PADDING = 100  # bytes of blanks after a boundary, of which nobody sends any
Sink = Callable[[bytes], Awaitable[None]]


@dataclass(slots=True)
class StreamedForm:
    """What came: texts, small files, and whether the large one did."""

    texts: dict[str, str] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    streamed: bool = False


class _State(Enum):
    PREAMBLE = 0
    BOUNDARY = 1
    HEADERS = 2
    CONTENT = 3
    END = 4


class _Reader:
    """`large` is the name of the file that goes to `sink`; `small` how many bytes each other file may have."""

    def __init__(self, boundary: bytes, large: str, sink: Sink, small: Mapping[str, int]) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._large = large
        self._sink = sink
        self._small = small
        self._buffer = bytearray(b"\r\n")  # so that a boundary at the very beginning is one like any other
        self._state = _State.PREAMBLE
        self._part: Part | None = None
        self._content = bytearray()
        self._parts = 0
        self.form = StreamedForm()

    async def feed(self, piece: bytes) -> None:
        """More of the body. Raises Refusal."""
        self._buffer += piece
        while await self._go_on():
            pass

    def end(self) -> None:
        """There is no more."""
        if self._state is not _State.END:
            raise malformed("the form ends before its last boundary")

    async def _go_on(self) -> bool:
        """One step; False where more has to come first."""
        if self._state in (_State.PREAMBLE, _State.CONTENT):
            return await self._until_boundary()
        if self._state is _State.BOUNDARY:
            return self._after_boundary()
        if self._state is _State.HEADERS:
            return self._read_headers()
        self._buffer.clear()  # what stands after the last boundary is nothing
        return False

    async def _until_boundary(self) -> bool:
        at = self._buffer.find(self._delimiter)
        end = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
        content = bytes(self._buffer[:end])
        del self._buffer[: end + (len(self._delimiter) if at >= 0 else 0)]
        if self._part is not None and content:
            await self._take(self._part, content)
        if at < 0:
            return False
        if self._part is not None:
            self._keep(self._part)
        self._state = _State.BOUNDARY
        return True

    def _after_boundary(self) -> bool:
        if len(self._buffer) < 2:
            return False
        if self._buffer.startswith(b"--"):
            self._state = _State.END
            return True
        line_end = self._buffer.find(b"\r\n", 0, MAX_PADDING)
        if line_end < 0 and len(self._buffer) < MAX_PADDING:
            return False
        if line_end < 0 or self._buffer[:line_end].strip(b" \t"):
            raise malformed("a boundary of the form is followed by something else")
        del self._buffer[: line_end + 2]
        self._state = _State.HEADERS
        return True

    def _read_headers(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_PART_HEADER_BYTES)
        if end < 0:
            if len(self._buffer) < MAX_PART_HEADER_BYTES:
                return False
            raise malformed(f"a part of the form has no end of its headers within {MAX_PART_HEADER_BYTES} bytes")
        self._parts += 1
        if self._parts >= MAX_PARTS:
            raise Refusal.invalid("body", f"a form of fewer than {MAX_PARTS} parts", "more")
        self._part = part_of(bytes(self._buffer[:end]))
        self._check(self._part)
        self._content.clear()
        del self._buffer[: end + 4]
        self._state = _State.CONTENT
        return True

    def _check(self, part: Part) -> None:
        known = part.name == self._large or part.name in self._small
        if known != (part.filename is not None):
            raise Refusal.invalid(part.name[:100], "a file" if known else "a text", "the other")
        if (
            part.name in self.form.texts
            or part.name in self.form.files
            or (part.name == self._large and self.form.streamed)
        ):
            raise Refusal.invalid(part.name[:100], "given once", "twice")

    async def _take(self, part: Part, content: bytes) -> None:
        if part.name == self._large:
            await self._sink(content)
            return
        self._content += content
        most = self._small.get(part.name, MAX_FIELD_BYTES)
        if len(self._content) > most:
            raise Refusal.invalid(part.name[:100], f"at most {most} bytes", "more")

    def _keep(self, part: Part) -> None:
        if part.name == self._large:
            self.form.streamed = True
        elif part.filename is not None:
            self.form.files[part.name] = bytes(self._content)
        else:
            try:
                self.form.texts[part.name] = self._content.decode()
            except UnicodeDecodeError:
                raise Refusal.invalid(part.name[:100], "a text in UTF-8", "something else") from None
        self._part = None


async def read_streamed(
    content_type: str, pieces: AsyncIterator[bytes], *, large: str, sink: Sink, small: Mapping[str, int]
) -> StreamedForm:
    """The form in a body that comes in pieces. Raises Refusal, and what `sink` raises."""
    reader = _Reader(boundary_of(content_type), large, sink, small)
    async for piece in pieces:
        await reader.feed(piece)
    reader.end()
    return reader.form
