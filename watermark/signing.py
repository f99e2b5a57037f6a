"""A picture and a signature → the signed picture."""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from watermark import png as png_file
from watermark.fonts import FontShelf, installed_fonts
from watermark.lettering import READABLE, READABLE_FROM, Align, Frame, Layer, lettered
from watermark.signature import MARGIN, ImageMark, Position, Signature, TextMark, unreadable_image

VISIBLE = 16  # of 255: an alpha below it, at the default opacity, changes a pixel by less than the eye sees


def sign(
    image: Image.Image, signature: Signature, fonts: FontShelf | None = None
) -> tuple[Image.Image, tuple[str, ...]]:
    """A signed copy of an RGB image, and what its author should know. Same input, same pixels.

    The mark's visible box stands exactly MARGIN pixels from the edges of its corner or side and is as wide as its size
    says, in the picture's width, unless it would then be too high: an image higher than the margins leave room, a
    line of text higher than two thirds of that width, several lines higher than all of it. Proportions are kept.
    Where margins leave no room at all, nothing is drawn and a warning says so.

    `fonts` are this machine's if None. Raises SignatureError(image) for an image mark that turns out to be damaged,
    and ValueError for an image that is not RGB.
    """
    if image.mode != "RGB":
        raise ValueError(f"only RGB images are signed, not {image.mode}")
    room_width, room_height = image.width - 2 * MARGIN, image.height - 2 * MARGIN
    if room_width < 1 or room_height < 1:
        return image.copy(), (f"signature: a picture of {image.width} × {image.height} px has no room for it",)
    width = min(room_width, max(1, round(image.width * signature.size.share)))
    match signature.mark:
        case TextMark(text=text):
            layer = lettered(
                text, fonts or installed_fonts(), _frame(image.width, width, room_height, signature.position)
            )
        case ImageMark() as mark:
            layer = Layer(decoded(mark), room_height)
    fitted = _fitted(layer, width)
    if fitted is None:
        return image.copy(), (*layer.warnings, "signature: it has no visible pixel")
    warnings = layer.warnings
    if fitted.width < width - 2:
        warnings += (f"signature: {fitted.width} px wide, not {width}, or it would be too high",)
    return _composed(image, fitted, signature), warnings


def decoded(mark: ImageMark) -> Image.Image:
    """The mark as RGBA. Raises SignatureError(image) if its pixels are damaged.

    Its size was checked when it was made, and Pillow is given nothing but header, palette and pixels.
    """
    try:
        with Image.open(BytesIO(png_file.essential(mark.png)), formats=["PNG"]) as image:
            image.load()
            return _rgba(image)
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
    ) as error:  # Pillow's for bad files
        raise unreadable_image("its pixels cannot be decoded") from error


def _rgba(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip, not scale
        image = image.convert("I").point(lambda level: level * (1 / 257)).convert("L")
    return image.convert("RGBA")


def _fitted(layer: Layer, room: int) -> Image.Image | None:
    """The layer's visible part scaled to `room` pixels wide, or less where it would be too high; None if there is none."""
    box = _visible_box(layer.image)
    if box is None:
        return None
    visible = layer.image.crop(box)
    width = min(room, max(1, round(visible.width * layer.highest / visible.height)))
    fitted: Image.Image | None = None
    for asked in range(width, width + 4):  # faint outer columns fall away: ask for as much more
        height = min(layer.highest, max(1, round(visible.height * asked / visible.width)))
        scaled = visible.resize((asked, height), Image.Resampling.LANCZOS)
        candidate = scaled.crop(_visible_box(scaled))
        if fitted is not None and candidate.width > width:
            break
        fitted = candidate
        if candidate.width == width:
            break
    return fitted


def _visible_box(layer: Image.Image) -> tuple[int, int, int, int] | None:
    alpha = layer.getchannel("A")
    return alpha.point([0] * VISIBLE + [255] * (256 - VISIBLE)).getbbox() or alpha.getbbox()


def _composed(image: Image.Image, mark: Image.Image, signature: Signature) -> Image.Image:
    left = {
        "left": MARGIN,
        "center": (image.width - mark.width) // 2,
        "right": image.width - MARGIN - mark.width,
    }[signature.position.horizontal]
    top = MARGIN if signature.position.at_top else image.height - MARGIN - mark.height
    strength = mark.getchannel("A").point([round(alpha * signature.opacity) for alpha in range(256)])
    signed = image.copy()
    signed.paste(mark.convert("RGB"), (left, top), strength)
    return signed


def _frame(picture_width: int, width: int, room_height: int, position: Position) -> Frame:
    aligns: dict[str, Align] = {"left": "left", "center": "center", "right": "right"}
    readable = READABLE * min(1.0, picture_width / READABLE_FROM)
    return Frame(width, min(width, room_height), readable, aligns[position.horizontal])
