from __future__ import annotations

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageChops, ImageFont, ImageStat

from tests.watermark.pictures import Box, block_image, changed, noise, plain, png, write_font
from watermark import FontShelf, ImageMark, Position, Signature, SignatureError, Size, TextMark, installed_fonts, sign
from watermark.png import MAGIC, Chunk
from watermark.signature import MARGIN

PICTURES = [(64, 64), (128, 128), (200, 97), (512, 512), (1024, 512), (512, 1024), (1024, 1024)]
WIDE = "Jane Doe"


def signed(ground: Image.Image, mark: TextMark | ImageMark, **how: object) -> Image.Image:
    """The signed picture, where no warning is expected."""
    picture, warnings = sign(ground, Signature(mark, **how))  # type: ignore[arg-type]
    assert warnings == ()
    return picture


def gaps(box: Box, picture: Image.Image, position: Position) -> tuple[int, int]:
    """How far the box is from where it should be, horizontally and vertically, in pixels."""
    left, top, right, bottom = box
    middle = (left + right - picture.width) // 2
    across = {"left": left - MARGIN, "right": picture.width - MARGIN - right, "center": middle}[position.horizontal]
    return abs(across), abs(top - MARGIN if position.at_top else picture.height - MARGIN - bottom)


def is_within(box: Box, picture: Image.Image) -> bool:
    """Whether the box keeps out of the margins."""
    left, top, right, bottom = box
    return min(left, top, picture.width - right, picture.height - bottom) >= MARGIN


@pytest.mark.parametrize("position", Position)
@pytest.mark.parametrize("size", Size)
def test_text_placement(position: Position, size: Size) -> None:
    """A text's visible box stands at the margin and has its share of the width, to the pixel, in pictures of any size."""
    for width, height in PICTURES:
        ground = plain(width, height)
        box = changed(ground, signed(ground, TextMark(WIDE), position=position, size=size))
        assert max(gaps(box, ground, position)) <= 1
        assert abs(box[2] - box[0] - size.share * width) <= 1


@pytest.mark.parametrize("position", Position)
@pytest.mark.parametrize("size", Size)
def test_image_placement(position: Position, size: Size) -> None:
    """An image's visible box stands at the margin, has its share of the width and keeps its proportions."""
    mark = ImageMark(png(block_image(300, 100, padding=37)))
    for width, height in PICTURES:
        ground = plain(width, height)
        left, top, right, bottom = box = changed(ground, signed(ground, mark, position=position, size=size))
        assert max(gaps(box, ground, position)) <= 1
        assert abs(right - left - size.share * width) <= 1
        assert abs((bottom - top) - (right - left) / 3) <= 1


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("text", ["Kim", "Studio Ågren", "gypsy", "J. R. R."])
def test_placement_shows_on_any_ground(colour: tuple[int, int, int], text: str) -> None:
    """Placement is within the promised 5 pixels also where the ground swallows outline or fill."""
    ground = plain(1024, 1024, colour)
    for size in Size:
        assert max(gaps(changed(ground, signed(ground, TextMark(text), size=size)), ground, Position.BOTTOM_RIGHT)) <= 5


def test_the_given_picture_is_left_alone() -> None:
    """Signing makes a copy."""
    ground = noise(96, 96)
    before = ground.tobytes()
    signed(ground, TextMark(WIDE))
    assert ground.tobytes() == before


def test_same_input_same_pixels() -> None:
    """Signing is a function: the same picture and signature give the same pixels, on any thread."""
    ground = noise(256, 256)
    signature = Signature(TextMark("Zürich 홍 😀"))
    shelf = FontShelf([Path("/usr/share/fonts")])
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda _: sign(ground, signature, shelf), range(32)))
    assert {image.tobytes() for image, _ in results} == {sign(ground, signature, shelf)[0].tobytes()}
    assert len({warnings for _, warnings in results}) == 1


@pytest.mark.parametrize("mark", [TextMark(WIDE), ImageMark(png(block_image(30, 10)))])
def test_opacity_0_changes_nothing(mark: TextMark | ImageMark) -> None:
    """At opacity 0 every pixel stays as it was."""
    ground = noise(128, 128)
    assert signed(ground, mark, opacity=0.0).tobytes() == ground.tobytes()


def test_opacity_1_is_the_mark_itself() -> None:
    """At opacity 1 an opaque mark hides the ground."""
    image = signed(plain(200, 200), ImageMark(png(block_image(50, 50))), opacity=1.0)
    assert image.getpixel((200 - MARGIN - 20, 200 - MARGIN - 20)) == (255, 0, 0)


@pytest.mark.parametrize("opacity", [0.1, 0.5, 0.7])
def test_opacity_mixes_linearly(opacity: float) -> None:
    """Between 0 and 1 mark and ground mix by that share, to one level."""
    image = signed(plain(200, 200, (0, 0, 0)), ImageMark(png(block_image(50, 50))), opacity=opacity)
    pixel = image.getpixel((200 - MARGIN - 20, 200 - MARGIN - 20))
    assert isinstance(pixel, tuple)
    assert abs(pixel[0] - 255 * opacity) <= 1
    assert pixel[1:] == (0, 0)


def test_image_alpha_is_kept() -> None:
    """Holes in an image mark show the ground."""
    ring = block_image(60, 60)
    ring.paste((0, 0, 0, 0), (20, 20, 40, 40))
    ground = plain(240, 240)
    image = signed(ground, ImageMark(png(ring)), position=Position.TOP_LEFT, opacity=1.0)
    assert image.getpixel((MARGIN + 30, MARGIN + 30)) == ground.getpixel((0, 0))
    assert image.getpixel((MARGIN + 5, MARGIN + 5)) == (255, 0, 0)


def relative_luminance(level: float) -> float:
    """Of a grey of 0 to 255 (WCAG 2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    share = level / 255
    return share / 12.92 if share <= 0.04045 else float(((share + 0.055) / 1.055) ** 2.4)


def contrast(one: float, other: float) -> float:
    """WCAG 2's contrast ratio of two greys."""
    lighter, darker = sorted((relative_luminance(one), relative_luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("ground", ["white", "black", "grey", "noise"])
@pytest.mark.parametrize("width", [512, 1024])
@pytest.mark.parametrize("size", Size)
def test_readable_on_any_ground(ground: str, width: int, size: Size) -> None:
    """From 512 pixels up, letters differ from what surrounds them by 4.5 : 1, WCAG's limit for text, at the default opacity."""
    levels = {"white": 255, "black": 0, "grey": 128}
    picture = plain(width, width, (levels[ground],) * 3) if ground in levels else noise(width, width)
    mark = TextMark("Jane Doe")
    # The same mark at full strength says which pixels are letter and which are outline.
    stencil = signed(plain(width, width, (255, 0, 0)), mark, size=size, opacity=1.0).getchannel("G")
    letters = stencil.point([0] * 230 + [255] * 26)
    outline = ImageChops.subtract(stencil.point([0] * 8 + [255] * 52 + [0] * 196), letters)
    grey = signed(picture, mark, size=size).convert("L")
    light, dark = ImageStat.Stat(grey, letters), ImageStat.Stat(grey, outline)
    assert min(light.count[0], dark.count[0]) > 100
    assert contrast(light.median[0], dark.median[0]) >= 4.5


def test_default_letters_are_large_enough() -> None:
    """In a 512 pixel picture a long name breaks into lines rather than shrink below reading size."""
    ground = plain(512, 512)
    left, top, right, bottom = changed(
        ground, signed(ground, TextMark("The Studio of Someone With a Name"), size=Size.SMALL)
    )
    assert abs(right - left - 77) <= 1
    assert bottom - top >= 3 * 10


def test_a_single_letter_is_no_billboard() -> None:
    """One line is at most two thirds as high as it may be wide, and says when that makes it narrower."""
    ground = plain(512, 512)
    for text in "AlÅ|":
        image, warnings = sign(ground, Signature(TextMark(text), size=Size.LARGE))
        left, top, right, bottom = changed(ground, image)
        assert bottom - top <= 120
        assert right - left <= 179
        assert any("px wide, not 179" in warning for warning in warnings)


@pytest.mark.parametrize(
    "words", ["W" * 100, "i " * 50, "한" * 100, "Jane van der Meer " * 5], ids=["word", "letters", "syllables", "names"]
)
def test_the_longest_texts_fit(words: str) -> None:
    """A hundred characters stay inside picture and share, whatever they are."""
    for width, height in PICTURES[::2]:
        for size in Size:
            ground = plain(width, height)
            box = changed(ground, sign(ground, Signature(TextMark(words[:100]), size=size))[0])
            assert is_within(box, ground)
            assert box[2] - box[0] <= size.share * width + 1


def test_unreadably_long_text_says_so() -> None:
    """Text too long to be read at its size is drawn, with a warning."""
    _, warnings = sign(plain(512, 512), Signature(TextMark("W" * 100), size=Size.SMALL))
    assert any("letters are only" in warning for warning in warnings)


def test_tall_image_stays_inside() -> None:
    """An image too tall for the picture is as high as the margins allow, with a warning."""
    ground = plain(300, 100)
    image, warnings = sign(ground, Signature(ImageMark(png(block_image(10, 400)))))
    box = changed(ground, image)
    assert is_within(box, ground)
    assert box[3] - box[1] == 80
    assert len(warnings) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 1000), (1000, 1), (1024, 1024)])
def test_extreme_images(size: tuple[int, int]) -> None:
    """One pixel, hairlines and the largest image allowed are drawn inside the margins."""
    for width, height in PICTURES:
        ground = plain(width, height)
        assert is_within(changed(ground, sign(ground, Signature(ImageMark(png(block_image(*size)))))[0]), ground)


@pytest.mark.parametrize("size", [(1, 1), (20, 200), (200, 20)])
def test_no_room_between_margins(size: tuple[int, int]) -> None:
    """A picture that is all margin stays as it is, with a warning."""
    ground = plain(*size)
    image, warnings = sign(ground, Signature(TextMark(WIDE)))
    assert image.tobytes() == ground.tobytes()
    assert "no room" in warnings[0]


@pytest.mark.parametrize("size", [(21, 21), (22, 300), (300, 22), (31, 31)])
def test_hardly_any_room(size: tuple[int, int]) -> None:
    """Where margins leave a few pixels, the mark keeps to them."""
    ground = plain(*size)
    for mark in (TextMark(WIDE), ImageMark(png(block_image(30, 20)))):
        image, _ = sign(ground, Signature(mark, opacity=1.0))
        assert is_within(changed(ground, image), ground)


def test_invisible_marks_say_so(tmp_path: Path) -> None:
    """A transparent image and a text of blank glyphs leave the picture as it is, with a warning."""
    write_font(tmp_path / "Blank.ttf", "A", blank="\u3164")
    ground = plain(128, 128)
    for mark in (ImageMark(png(Image.new("RGBA", (9, 9)))), TextMark("\u3164")):
        image, warnings = sign(ground, Signature(mark), FontShelf([tmp_path]))
        assert image.tobytes() == ground.tobytes()
        assert "no visible pixel" in warnings[0]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png(mode: str) -> None:
    """Image marks may be of any PNG colour type; white stays white."""
    white = Image.new("RGB", (30, 10), (255, 255, 255))
    kind = Image.new("I;16", (30, 10), 65535) if mode == "I;16" else white.convert(mode)
    image = signed(plain(200, 200, (0, 0, 0)), ImageMark(png(kind)), opacity=1.0)
    assert image.getpixel((200 - MARGIN - 5, 200 - MARGIN - 5)) == (255, 255, 255)


def test_palette_transparency_is_kept() -> None:
    """A palette's transparent entry is transparent."""
    image = Image.new("P", (30, 10), 0)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (0, 0, 15, 10))
    image.info["transparency"] = b"\x00\xff"
    ground = plain(200, 200)
    left, _, right, _ = changed(ground, signed(ground, ImageMark(png(image))))
    assert right - left == 50
    assert signed(ground, ImageMark(png(image)), opacity=1.0).getpixel((200 - MARGIN - 20, 200 - MARGIN - 5)) == (
        0,
        255,
        0,
    )


@pytest.mark.parametrize("pixels", [b"", b"not deflated", zlib.compress(b"\0" * 9), zlib.compress(b"\x09" * 999)])
def test_damage_that_checksums_do_not_show(pixels: bytes) -> None:
    """Pixels that do not inflate under right checksums are refused when they are decoded."""
    head = Chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 9, 8, 6, 0, 0, 0)).encoded()
    mark = ImageMark(MAGIC + head + Chunk(b"IDAT", pixels).encoded() + Chunk(b"IEND", b"").encoded())
    with pytest.raises(SignatureError) as caught:
        sign(plain(64, 64), Signature(mark))
    assert caught.value.field == "image"


def test_only_rgb_pictures() -> None:
    """Other modes are the caller's mistake."""
    with pytest.raises(ValueError, match="RGB"):
        sign(Image.new("RGBA", (64, 64)), Signature(TextMark(WIDE)))


@pytest.mark.parametrize("layout", [ImageFont.Layout.BASIC, None])
@pytest.mark.parametrize(
    "text", ["שלום עולם", "مرحبا بالعالم", "नमस्ते", "👩‍👩‍👧‍👦🇰🇷1️⃣", "e\u0301" * 30, "a" + "\u0301" * 99, "\u202eabc"]
)
def test_awkward_scripts(text: str, layout: ImageFont.Layout | None) -> None:
    """Right-to-left, shaped, stacked and joined writing is drawn inside the margins, with and without a shaping library."""
    shelf = FontShelf([Path("/usr/share/fonts")], layout)
    for side in (64, 512):
        ground = plain(side, side)
        image, _ = sign(ground, Signature(TextMark(text), size=Size.LARGE), shelf)
        assert is_within(changed(ground, image), ground)


PRINTABLE = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    text=st.text(PRINTABLE, min_size=1, max_size=60) | st.text(max_size=9),
    position=st.sampled_from(Position),
    size=st.sampled_from(Size),
    picture=st.sampled_from([(64, 64), (96, 64), (512, 64), (65, 130)]),
)
@example(text="\U0001f468\u200d" * 20, position=Position.TOP_LEFT, size=Size.LARGE, picture=(64, 64))
@example(text="\ufdfd" * 5, position=Position.TOP_LEFT, size=Size.LARGE, picture=(64, 64))
@example(text="\U0010ffff\ue000\ufdd0", position=Position.TOP_LEFT, size=Size.LARGE, picture=(64, 64))
def test_no_text_does_harm(text: str, position: Position, size: Size, picture: tuple[int, int]) -> None:
    """Any Unicode text is either refused or drawn inside the margins."""
    ground = plain(*picture)
    try:
        mark = TextMark(text)
    except SignatureError:
        return
    image, warnings = sign(ground, Signature(mark, position, size), installed_fonts())
    box = ImageChops.difference(ground, image).getbbox()
    assert is_within(box, ground) if box else warnings
