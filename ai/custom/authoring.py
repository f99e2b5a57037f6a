"""What a custom model's class takes and gives beside plain Python values.

    class Upscaler:
        '''Makes a picture larger.'''

        def load(self) -> None: ...
        def predict(self, image: Picture, scale: Annotated[int, Field(ge=2, le=4)] = 2) -> Image.Image: ...
        def unload(self) -> None: ...

Imported in a model's own process alone: it imports Pillow.
"""

from __future__ import annotations

import base64
import binascii
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Annotated

from PIL import Image, ImageOps
from pydantic import BeforeValidator, InstanceOf, ValidationInfo, WithJsonSchema

FORMATS = ("PNG", "JPEG", "WEBP")
MAX_PIXELS = 64_000_000  # of a picture that comes in: 200 MB as RGB
FILE = "file:"  # stands before the name of an input whose bytes came beside the JSON


@dataclass(frozen=True, slots=True)
class Progress:
    """Yielded: how far this prediction is, 0 to 1."""

    fraction: float


@dataclass(frozen=True, slots=True)
class Preview:
    """Yielded: a picture on the way to the result."""

    picture: Image.Image


def read_picture(value: object, info: ValidationInfo) -> object:
    """A picture as it comes in (`data:image/png;base64,…`, or bytes beside the JSON) as RGB, upright. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError("must be a picture as a data URL")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limit is below
            with Image.open(BytesIO(_bytes(value, info.context or {})), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:  # its header says so, before a pixel is decoded
                    raise ValueError(f"must have at most {MAX_PIXELS} pixels, has {image.width} × {image.height}")
                return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:  # Pillow's for bad files
        raise ValueError(f"must be a sound picture ({', '.join(FORMATS)})") from error


def _bytes(value: str, files: dict[str, bytes]) -> bytes:
    if value.startswith(FILE) and value in files:
        return files[value]
    head, comma, text = value.partition(",")
    if not (comma and head.startswith("data:") and head.endswith(";base64")):
        raise ValueError("must be a picture as a data URL: data:image/png;base64,…")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError("must be a picture as a data URL, in sound base64") from error


Picture = Annotated[
    InstanceOf[Image.Image],
    BeforeValidator(read_picture),
    WithJsonSchema({"type": "string", "format": "uri", "contentMediaType": "image/*"}),
]
"""An argument that is a picture: a `PIL.Image.Image`, RGB, upright."""
