"""Grounds to sign, image marks, and fonts of a few blocks, made here so that no test depends on what is installed."""

from __future__ import annotations

import random
from io import BytesIO
from pathlib import Path

from fontTools.fontBuilder import FontBuilder  # type: ignore[import-untyped]
from fontTools.pens.ttGlyphPen import TTGlyphPen  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont, newTable  # type: ignore[import-untyped]
from fontTools.ttLib.tables.sbixGlyph import Glyph  # type: ignore[import-untyped]
from fontTools.ttLib.tables.sbixStrike import Strike  # type: ignore[import-untyped]
from PIL import Image, ImageChops

Box = tuple[int, int, int, int]
GREY = (128, 128, 128)


def plain(width: int, height: int, colour: tuple[int, int, int] = GREY) -> Image.Image:
    """A ground of one colour."""
    return Image.new("RGB", (width, height), colour)


def noise(width: int, height: int) -> Image.Image:
    """The busiest ground there is: every pixel at random, the same every time."""
    return Image.frombytes("RGB", (width, height), random.Random(7).randbytes(width * height * 3))


def changed(before: Image.Image, after: Image.Image) -> Box:
    """The smallest box around every changed pixel: left, top, right, bottom."""
    box = ImageChops.difference(before, after).getbbox()
    assert box is not None, "nothing was changed"
    return box


def png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    file = BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def block_image(width: int, height: int, padding: int = 0) -> Image.Image:
    """A red block, inside a transparent border."""
    image = Image.new("RGBA", (width + 2 * padding, height + 2 * padding))
    image.paste((255, 0, 0, 255), (padding, padding, padding + width, padding + height))
    return image


def write_font(path: Path, characters: str, height: int = 700, blank: str = "") -> Path:
    """A font whose characters are blocks `height` thousandths of an em high and half an em wide; `blank` ones are empty."""
    names = {ord(character): f"g{ord(character):x}" for character in characters + blank}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    block, nothing = _block(height), TTGlyphPen(None).glyph()
    blanks = {names[ord(character)] for character in blank}
    builder.setupGlyf({name: nothing if name in blanks else block for name in [".notdef", *names.values()]})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (600, 50)))
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": path.stem, "styleName": "Bold"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(path)
    return path


def write_bitmap_font(path: Path, character: str, strike: int = 40) -> Path:
    """A font with one character: a red square of `strike` pixels, which can be drawn at no other size."""
    font = TTFont(write_font(path, "", blank=character))
    name = font.getBestCmap()[ord(character)]
    bitmaps = font["sbix"] = newTable("sbix")
    bitmaps.strikes = {strike: Strike(ppem=strike, resolution=72)}
    bitmaps.strikes[strike].glyphs = {
        each: Glyph(
            glyphName=each,
            graphicType="png ",
            imageData=png(block_image(strike, strike)),
            originOffsetX=0,
            originOffsetY=0,
        )
        if each == name
        else Glyph(glyphName=each)
        for each in font.getGlyphOrder()
    }
    font.save(path)
    return path


def _block(height: int) -> object:
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0))
    pen.lineTo((50, height))
    pen.lineTo((550, height))
    pen.lineTo((550, 0))
    pen.closePath()
    return pen.glyph()
