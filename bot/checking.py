"""Whether a picture is what was asked for: readable, of its size, signed, saying its own prompt and seed. Pure; for threads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

from PIL import Image, ImageChops

from bot.choosing import Order
from server.events import Artifact
from watermark import MetadataError, Size, read_metadata
from watermark.signature import MARGIN

MARK_PLACE = 5  # pixels by which a mark may be off its place: the contract's
MARK_SIZE = Size.MEDIUM  # the server's own where the order names none, as bots' orders do


def wrongs_of(order: Order, job_id: str, artifacts: Sequence[Artifact], pictures: Sequence[bytes]) -> list[str]:
    """What is wrong with the pictures of one job; nothing, as a rule."""
    wrongs = []
    if not len(pictures) == len(artifacts) == order.num_images:
        wrongs.append(f"{order.num_images} pictures were asked for, {len(pictures)} came, {len(artifacts)} were told")
    for index, (artifact, png) in enumerate(zip(artifacts, pictures, strict=False)):
        wrongs += [f"picture {index}: {wrong}" for wrong in _wrongs(order, job_id, index, artifact, png)]
    return wrongs


def _wrongs(order: Order, job_id: str, index: int, artifact: Artifact, png: bytes) -> Iterator[str]:
    try:
        size = opened(png).size
        told = read_metadata(png)
    except (OSError, ValueError, SyntaxError, MetadataError) as error:
        yield f"it cannot be read: {error}"
        return
    if size != (artifact.width, artifact.height):
        yield f"it has {size}, {artifact.width} x {artifact.height} was told"
    if order.width is not None and size != (order.width, order.height):
        yield f"it has {size}, {order.width} x {order.height} was asked for"
    expected = {"job_id": job_id, "image_index": str(index), "prompt": order.prompt, "seed": str(order.seed + index)}
    if order.negative_prompt:
        expected["negative_prompt"] = order.negative_prompt
    if order.num_inference_steps is not None:
        expected["steps"] = str(order.num_inference_steps)
    if order.signature:
        expected["artist"] = order.signature
    for key, value in expected.items():
        if told.get(key) != value:
            yield f"its {key} is {told.get(key)!r}, not {value!r}"


def opened(png: bytes) -> Image.Image:
    """A PNG, every pixel decoded. Raises OSError, ValueError or SyntaxError if it is damaged."""
    with Image.open(BytesIO(png), formats=["PNG"]) as image:
        image.load()
        return image.convert("RGB")


def apart(one: bytes, other: bytes) -> int:
    """By how many of 255 levels two pictures differ at most; 255 if their sizes do."""
    first, second = opened(one), opened(other)
    if first.size != second.size:
        return 255
    return max(high for _, high in ImageChops.difference(first, second).getextrema())  # type: ignore[misc]


def mark_wrongs(signed: bytes, bare: bytes, tolerance: int) -> str:
    """What is wrong with the mark that makes `signed` differ from the same picture without one; "" if it stands in its place."""
    one, other = opened(signed), opened(bare)
    if one.size != other.size:
        return f"it has {one.size}, without its mark {other.size}"
    changed = ImageChops.difference(one, other).convert("L").point([0] * (tolerance + 1) + [255] * (255 - tolerance))
    box = changed.getbbox()
    if box is None:
        return "no mark can be seen on it"
    left, top, right, bottom = box
    width, height = one.size
    widest = width * MARK_SIZE.share + MARK_PLACE
    off = max(abs(width - MARGIN - right), abs(height - MARGIN - bottom))
    if off > MARK_PLACE or right - left > widest or bottom - top > widest:
        return f"its mark has the pixels {box} of {one.size}, which is not the bottom right corner"
    return ""
