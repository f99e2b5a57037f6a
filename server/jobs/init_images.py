"""An init image as it was sent → pixels of the size that is painted. Never on the reactor thread."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from PIL import Image, ImageOps

from ai.types import InitImage
from server.errors import Refusal

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SIDE = (
    16_384  # pixels of a file; Pillow scales one direction first, and so holds its height times the width asked for
)
_FIELD = "init_image"

CheckSize = Callable[[int, int], None]
"""Raises Refusal for a width and a height that are not painted."""


def read_init_image(
    data: bytes,
    width: int | None,
    height: int | None,
    *,
    max_pixels: int,
    size_multiple: int,
    check_size: CheckSize,
) -> InitImage:
    """Decode a file and scale it to `width` × `height` as diffusers does (Lanczos, proportions are not kept).

    A side that is None is the image's own, rounded down to `size_multiple`. A camera's orientation is applied, of an animation
    the first frame taken, transparency left aside. `check_size` is asked before anything is scaled: one pixel may be as wide
    as a million. Raises Refusal.
    """
    picture = _decoded(data, max_pixels)
    wanted = (
        picture.width - picture.width % size_multiple if width is None else width,
        picture.height - picture.height % size_multiple if height is None else height,
    )
    if not all(wanted):
        raise Refusal.invalid(_FIELD, f"at least {size_multiple} pixels each way", _size(picture))
    check_size(*wanted)
    return InitImage(*wanted, picture.resize(wanted, Image.Resampling.LANCZOS).tobytes())


def _decoded(data: bytes, max_pixels: int) -> Image.Image:
    """As RGB, upright."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > max_pixels:  # its header says so, before a pixel is decoded
                raise Refusal.invalid(_FIELD, f"at most {max_pixels} pixels", _size(image))
            if max(image.size) > MAX_SIDE:
                raise Refusal.invalid(_FIELD, f"at most {MAX_SIDE} pixels each way", _size(image))
            return ImageOps.exif_transpose(image).convert("RGB")
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own, larger limit
        raise Refusal.invalid(_FIELD, f"at most {max_pixels} pixels", "many more") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow's for bad files
        limit = f"a sound file of {', '.join(FORMATS[:-1])} or {FORMATS[-1]}"
        raise Refusal.invalid(_FIELD, limit, f"{len(data)} bytes of something else") from error


def _size(image: Image.Image) -> str:
    return f"{image.width} × {image.height}"
