"""Recordings: the frames of a live session in a file of JSON lines, with the times at which they were captured.

{"recording": 1, "inputs": ["smile", "jaw"]}               first line; inputs: the values' names, none for pictures
{"captured_us": 1700000000000000, "values": [0.1, 0.7]}     a frame; times never go backwards
{"captured_us": 1700000000033333, "image": "…base64…"}      a frame that is a picture, as PNG or JPEG
"""

from __future__ import annotations

import base64
import binascii
import json
from io import BufferedReader
from pathlib import Path
from typing import Any, BinaryIO

from server.live.sources.pictures import fitted, read_picture, written
from server.live.sources.reading import Shape, SourceFailed, SourceFrame, Timed

FORMAT = 1
LONGEST_LINE = 4 << 20  # bytes: a picture of 1024 × 1024 pixels in base64
LARGEST = 1e30  # no sensor gives more, and float32 has room for it
WITHOUT_TIMES = 1 / 30  # seconds from a recording's last frame to its first again


class RecordingReader:
    """Plays a recording: in its own times, or at `rate` frames a second if that is not 0."""

    def __init__(self, path: Path, shape: Shape, *, rate: float = 0.0, repeat: bool = False) -> None:
        self._path = path
        self._shape = shape
        self._rate = rate
        self._repeat = repeat
        self._file: BufferedReader | None = None
        self._line = 0  # of the file, the one that was read last
        self._frames = 0  # since it was opened, over all rounds
        self._base = 0.0  # seconds, at which this round began
        self._first_us: int | None = None  # of this round
        self._latest_us = 0
        self._gap_us = int(WITHOUT_TIMES * 1e6)  # between the last two frames

    def open(self) -> None:
        """Raises SourceFailed where it is no recording, or one for another model."""
        try:
            self._file = self._path.open("rb")
        except OSError as error:
            raise SourceFailed(f"the recording cannot be opened: {error.strerror}") from None
        header = self._next_line()
        if not isinstance(header, dict) or header.get("recording") != FORMAT:
            raise SourceFailed(f'line 1: no recording; it must be {{"recording": {FORMAT}, "inputs": […]}}')
        names = header.get("inputs", [])
        if not self._shape.pictures and tuple(names) != self._shape.names:
            raise SourceFailed(
                f"line 1: the recording's inputs are not the model's: {', '.join(self._shape.names[:8])} …"
            )

    def read(self) -> Timed | None:
        """The next frame. Raises SourceFailed with the line's number for what is no frame."""
        line = self._next_line()
        if line is None and self._repeat and self._first_us is not None:
            self._begin_again()
            line = self._next_line()
        if line is None:
            return None
        frame, captured_us = self._frame(line)
        if self._first_us is None:
            self._first_us = self._latest_us = captured_us
        if captured_us < self._latest_us:
            raise SourceFailed(f"line {self._line}: captured_us goes backwards")
        self._gap_us = captured_us - self._latest_us or self._gap_us
        self._latest_us = captured_us
        own = self._base + (captured_us - self._first_us) / 1e6
        due = self._frames / self._rate if self._rate else own
        self._frames += 1
        return Timed(frame, due)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin_again(self) -> None:
        assert self._file is not None
        assert self._first_us is not None
        self._base += (self._latest_us - self._first_us + self._gap_us) / 1e6
        self._first_us, self._line = None, 0
        self._file.seek(0)
        self._next_line()

    def _next_line(self) -> Any:
        """What the next line says; None at the end."""
        assert self._file is not None
        self._line += 1
        try:
            line = self._file.readline(LONGEST_LINE + 1)
        except OSError as error:
            raise SourceFailed(f"line {self._line}: {error.strerror}") from None
        if not line:
            return None
        if len(line) > LONGEST_LINE:
            raise SourceFailed(f"line {self._line}: more than {LONGEST_LINE} bytes")
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            raise SourceFailed(f"line {self._line}: no JSON") from None

    def _frame(self, line: Any) -> tuple[SourceFrame, int]:
        if not isinstance(line, dict) or not _is_time(line.get("captured_us")):
            raise SourceFailed(f"line {self._line}: no frame; it needs captured_us, microseconds since 1970")
        if self._shape.pictures:
            return SourceFrame(image=self._image(line.get("image"))), line["captured_us"]
        return SourceFrame(values=self._values(line.get("values"))), line["captured_us"]

    def _values(self, told: Any) -> tuple[float, ...]:
        wanted = len(self._shape.names)
        if not isinstance(told, list) or len(told) != wanted or not all(map(_is_number, told)):
            raise SourceFailed(f"line {self._line}: values must be {wanted} finite numbers")
        return tuple(map(float, told))

    def _image(self, told: Any) -> bytes:
        try:
            return fitted(read_picture(base64.b64decode(told, validate=True)), self._shape)
        except (TypeError, ValueError, binascii.Error, SourceFailed):
            raise SourceFailed(f"line {self._line}: image must be a picture, as PNG or JPEG in base64") from None


class RecordingWriter:
    """Writes a recording of frames of one shape."""

    def __init__(self, file: BinaryIO, shape: Shape) -> None:
        self._file = file
        self._shape = shape
        self._write({"recording": FORMAT, "inputs": list(shape.names)})

    def add(self, frame: SourceFrame) -> None:
        """One more frame; its `captured_us` must be set."""
        told: dict[str, Any] = {"captured_us": frame.captured_us}
        if frame.image:
            told["image"] = base64.b64encode(written(frame.image, self._shape)).decode("ascii")
        else:
            told["values"] = frame.values
        self._write(told)

    def _write(self, told: object) -> None:
        self._file.write(json.dumps(told, separators=(",", ":"), allow_nan=False).encode() + b"\n")


def _is_time(told: object) -> bool:
    return type(told) is int and 0 <= told < 1 << 62


def _is_number(told: object) -> bool:
    return type(told) in (int, float) and abs(told) < LARGEST  # type: ignore[arg-type]  # false for NaN, too
