"""An init image as it was sent → pixels of the size that is painted. Never on the reactor thread."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from io import BytesIO
from weakref import WeakValueDictionary

from PIL import Image, ImageOps

from ai.cards import ModelCard
from ai.types import InitImage
from server.errors import Refusal
from server.interfaces import Pool

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_SIDE = (
    16_384  # pixels of a file; Pillow scales one direction first, and so holds its height times the width asked for
)
_FIELD = "init_image"

CheckSize = Callable[[int, int], None]
"""Raises Refusal for a width and a height that are not painted."""


class InitImages:
    """Decodes in `pool`. Jobs that start from one file in one size share its pixels, which are decoded once for as long as any
    of them is there."""

    def __init__(self, pool: Pool, max_pixels: int) -> None:
        self._pool = pool
        self._max_pixels = max_pixels
        self._decoded: WeakValueDictionary[tuple[object, ...], InitImage] = WeakValueDictionary()
        self._decoding: dict[tuple[object, ...], asyncio.Future[InitImage]] = {}

    async def read(
        self, data: bytes, width: int | None, height: int | None, *, card: ModelCard, check_size: CheckSize
    ) -> InitImage:
        """As `read_init_image`, for a model; `check_size` is the same for the same model. Raises Refusal."""
        key = (hashlib.sha256(data).digest(), width, height, card.name)
        if (found := self._decoded.get(key)) is not None:
            return found
        under_way = self._decoding.get(key)
        if under_way is None:
            under_way = asyncio.ensure_future(self._read(data, width, height, card, check_size))
            self._decoding[key] = under_way
            under_way.add_done_callback(lambda done: self._ended(key, done))
        image = await asyncio.shield(under_way)  # others may wait for it, too
        return self._decoded.setdefault(key, image)

    def _ended(self, key: tuple[object, ...], done: asyncio.Future[InitImage]) -> None:
        del self._decoding[key]
        if not done.cancelled():
            done.exception()  # heard, though nobody waits any more

    async def _read(
        self, data: bytes, width: int | None, height: int | None, card: ModelCard, check_size: CheckSize
    ) -> InitImage:
        return await self._pool.run(
            read_init_image,
            data,
            width,
            height,
            max_pixels=self._max_pixels,
            size_multiple=card.size_multiple,
            check_size=check_size,
        )


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
