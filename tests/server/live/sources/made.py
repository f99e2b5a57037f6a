"""Pictures, films and recordings for tests, and a listener that keeps what it hears."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy
from PIL import Image

from server.errors import Code
from server.live.sources.pictures import opencv
from server.live.sources.reading import Shape, SourceFrame

PICTURES = Shape(width=16, height=12)
VALUES = Shape(names=("smile", "jaw"))
RED, GREEN, BLUE = (200, 20, 30), (20, 200, 30), (20, 30, 200)


class Listener:
    """Hears a source."""

    def __init__(self) -> None:
        self.frames: list[SourceFrame] = []
        self.ends: list[tuple[Code, str]] = []

    def source_frame(self, frame: SourceFrame) -> None:
        """Keep it."""
        assert not self.ends
        self.frames.append(frame)

    def source_ended(self, code: Code, message: str) -> None:
        """Keep it."""
        self.ends.append((code, message))


def picture(colour: tuple[int, int, int], width: int = 64, height: int = 48, kind: str = "PNG") -> bytes:
    """A file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, kind)
    return file.getvalue()


def film(path: Path, colours: list[tuple[int, int, int]], rate: float = 25.0) -> None:
    """A video file with a frame of each colour (motion JPEG)."""
    cv2 = opencv()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), rate, (64, 48))
    assert writer.isOpened()
    for colour in colours:
        writer.write(numpy.full((48, 64, 3), colour[::-1], numpy.uint8))
    writer.release()


def recording(path: Path, *lines: Any, inputs: tuple[str, ...] = VALUES.names) -> Path:
    """A file with a header and these lines; a text stands as it is."""
    header = json.dumps({"recording": 1, "inputs": inputs})
    path.write_text("\n".join([header, *(line if isinstance(line, str) else json.dumps(line) for line in lines)]))
    return path


def colour_of(image: bytes) -> str:
    """Which of the three an image of PICTURES has, all over."""
    pixels = numpy.frombuffer(image, numpy.uint8).reshape(PICTURES.height, PICTURES.width, 3).astype(int)
    for name, colour in (("red", RED), ("green", GREEN), ("blue", BLUE)):
        if abs(pixels - colour).max() < 12:  # JPEG in a film
            return name
    return str(pixels.mean(axis=(0, 1)))
