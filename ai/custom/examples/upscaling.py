"""A larger picture, by Pillow: custom model without weights, to copy from.

ATELIER_CUSTOM_MODELS=upscaler=ai.custom.examples.upscaling:Upscaler
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Annotated, Literal

from PIL import Image, ImageFilter
from pydantic import Field

from ai.custom.authoring import Picture, Preview, Progress

_FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
_BAND = 256  # rows of the result that are made between two looks at whether anybody still wants it


class Upscaler:
    """Makes a picture larger, by a filter of Pillow's, and sharpens it if that is wanted."""

    model_type = "image-to-image"
    repeatable = True
    predict_seconds = 60

    def predict(
        self,
        image: Annotated[Picture, Field(description="The picture.")],
        scale: Annotated[int, Field(ge=2, le=4, description="How many times as large, each way.")] = 2,
        filter: Annotated[  # noqa: A002  # what callers write
            Literal["lanczos", "bicubic", "nearest"], Field(description="How pixels are made.")
        ] = "lanczos",
        sharpen: Annotated[float, Field(ge=0, le=3, description="0 leaves it as it is.")] = 0.0,
    ) -> Generator[Progress | Preview, None, Image.Image]:
        """Band by band, so that it can be followed and stopped."""
        width, height = image.width * scale, image.height * scale
        yield Preview(image.resize((min(width, 128), max(1, min(width, 128) * height // width))))
        whole = Image.new("RGB", (width, height))
        for top in range(0, height, _BAND):
            bottom = min(top + _BAND, height)
            band = image.resize((width, bottom - top), _FILTERS[filter], (0, top / scale, image.width, bottom / scale))
            whole.paste(band, (0, top))
            yield Progress(bottom / height)
        return whole.filter(ImageFilter.UnsharpMask(2, round(100 * sharpen), 2)) if sharpen else whole
