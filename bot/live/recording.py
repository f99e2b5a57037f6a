"""What a bot sends, kept as a recording that a server can play again (server.live.sources.recording)."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from bot.errors import ClientError
from proto import atelier_pb2 as pb
from server.live.sources.reading import Shape, SourceFrame
from server.live.sources.recording import RecordingWriter


class CannotRecord(ClientError):
    """The file cannot be written."""


class Recorder:
    """The frames of one session, over all of its connections."""

    def __init__(self, path: Path) -> None:
        try:
            self._file: BinaryIO = path.open("wb")
        except OSError as error:
            raise CannotRecord(f"--record {path}: {error.strerror}") from None
        self._writer: RecordingWriter | None = None

    def begin(self, opened: pb.LiveOpened) -> None:
        """The session is open, or open again."""
        if self._writer is None:
            self._writer = RecordingWriter(self._file, Shape(tuple(opened.inputs), opened.width, opened.height))

    def add(self, frame: pb.LiveFrame) -> None:
        """One frame."""
        if self._writer is not None:
            self._writer.add(SourceFrame(tuple(frame.values), frame.image, frame.captured_us))

    def close(self) -> None:
        """It is whole."""
        self._file.close()
