"""Pictures of sources in the size that a model takes. OpenCV's part is here, and in `camera`; both run on threads."""

from __future__ import annotations

from functools import cache
from typing import Any

from server.live.sources.reading import Shape, SourceFailed


@cache
def opencv() -> Any:
    """OpenCV, loaded by the first source that needs it; one thread, since the cores are the engine's. Raises SourceFailed."""
    try:
        import cv2
    except ImportError:
        raise SourceFailed("opencv-python-headless is not installed: cameras and folders need it") from None
    cv2.setNumThreads(1)
    return cv2


def read_picture(data: bytes) -> Any:
    """The pixels, [height, width, 3] of uint8, blue first. Raises SourceFailed for what is no picture."""
    cv2 = opencv()
    import numpy

    try:
        pixels = cv2.imdecode(numpy.frombuffer(data, numpy.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        pixels = None
    if pixels is None:
        raise SourceFailed("no picture that OpenCV reads")
    return pixels


def fitted(pixels: Any, shape: Shape) -> bytes:
    """As a live frame has it (red first, rows from the top): the middle of `pixels`, in the model's size and proportions."""
    cv2 = opencv()
    height, width = pixels.shape[:2]
    scale = min(width / shape.width, height / shape.height)
    cut_width, cut_height = max(1, round(shape.width * scale)), max(1, round(shape.height * scale))
    left, top = (width - cut_width) // 2, (height - cut_height) // 2
    cut = pixels[top : top + cut_height, left : left + cut_width]
    how = cv2.INTER_AREA if scale > 1 else cv2.INTER_LINEAR
    resized = cv2.resize(cut, (shape.width, shape.height), interpolation=how)
    return bytes(cv2.cvtColor(resized, cv2.COLOR_BGR2RGB).tobytes())


def written(image: bytes, shape: Shape) -> bytes:
    """A live frame's image as a PNG."""
    cv2 = opencv()
    import numpy

    pixels = numpy.frombuffer(image, numpy.uint8).reshape(shape.height, shape.width, 3)
    made, data = cv2.imencode(".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
    if not made:
        raise SourceFailed("a picture could not be encoded")
    return bytes(data)
