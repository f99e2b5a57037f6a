from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image, ImageFont

from tests.watermark.pictures import changed, plain, write_bitmap_font, write_font
from watermark import FontShelf, Position, Signature, Size, TextMark, installed_fonts, sign
from watermark.fonts import split_clusters

LOW, HIGH = 300, 700  # thousandths of an em: tells which font drew


def faces(shelf: FontShelf, text: str) -> list[tuple[str, str]]:
    """Each cluster with the name of its font."""
    return [(each.text, each.face.path.stem if each.face.path else "built in") for each in shelf.clusters(text)[0]]


def signed(text: str, shelf: FontShelf) -> tuple[Image.Image, tuple[str, ...]]:
    """A grey picture, signed large at its top left with what is on the shelf."""
    return sign(plain(512, 512), Signature(TextMark(text), Position.TOP_LEFT, Size.LARGE, opacity=1.0), shelf)


def test_each_character_from_the_first_font_that_has_it(tmp_path: Path) -> None:
    """Characters come from the first font with them, in the folders' order of preference."""
    write_font(tmp_path / "A-Bold.ttf", "ab")
    write_font(tmp_path / "B-Bold.ttf", "bc홍")
    assert faces(FontShelf([tmp_path]), "abc홍") == [
        ("a", "A-Bold"),
        ("b", "A-Bold"),
        ("c", "B-Bold"),
        ("홍", "B-Bold"),
    ]


def test_preferred_fonts_come_first(tmp_path: Path) -> None:
    """Known good fonts come before others, bold before light, slanted and mono last."""
    for name in ("AMono-Bold", "A-Italic", "A-Regular", "B-Bold", "NanumGothicBold", "DejaVuSans-Bold"):
        write_font(tmp_path / f"{name}.ttf", "a")
    order = [face.path.stem for face in FontShelf([tmp_path]).faces if face.path]
    assert order == ["DejaVuSans-Bold", "NanumGothicBold", "B-Bold", "A-Regular", "AMono-Bold", "A-Italic"]


def test_a_cluster_is_not_split_between_fonts(tmp_path: Path) -> None:
    """A letter and its accent come from one font if any has both."""
    write_font(tmp_path / "A-Bold.ttf", "q")
    write_font(tmp_path / "B-Bold.ttf", "q\u0301")
    assert faces(FontShelf([tmp_path]), "qq\u0301") == [("q", "A-Bold"), ("q\u0301", "B-Bold")]


def test_spaces_stay_with_their_neighbours(tmp_path: Path) -> None:
    """A space does not change the font, so that words of one script are shaped together."""
    write_font(tmp_path / "A-Bold.ttf", "a ,")
    write_font(tmp_path / "B-Bold.ttf", "홍 ")
    assert faces(FontShelf([tmp_path]), "홍 홍,") == [
        ("홍", "B-Bold"),
        (" ", "B-Bold"),
        ("홍", "B-Bold"),
        (",", "A-Bold"),
    ]


def test_pictographs_prefer_an_emoji_font(tmp_path: Path) -> None:
    """Emoji come from an emoji font where there is one, letters and digits never do if another font has them."""
    write_font(tmp_path / "DejaVuSans-Bold.ttf", "1😀")
    write_font(tmp_path / "SomeEmoji.ttf", "1😀")
    assert faces(FontShelf([tmp_path]), "1😀") == [("1", "DejaVuSans-Bold"), ("😀", "SomeEmoji")]


@pytest.mark.parametrize("layout", [ImageFont.Layout.BASIC, None])
def test_bitmap_emoji_keep_their_colours(tmp_path: Path, layout: ImageFont.Layout | None) -> None:
    """A colour bitmap, which exists in one size, is scaled to the letters beside it and keeps its colours."""
    write_font(tmp_path / "A-Bold.ttf", "ab")
    write_bitmap_font(tmp_path / "ColorEmoji.ttf", "😀")
    shelf = FontShelf([tmp_path], layout)
    image, warnings = signed("ab😀", shelf)
    assert warnings == ()
    left, top, right, bottom = changed(plain(512, 512), image)
    assert (left, top, right) == (10, 10, 189)
    assert image.getpixel((right - 15, (top + bottom) // 2)) == (255, 0, 0)
    assert image.getpixel((left + 15, (top + bottom) // 2 + 10)) == (255, 255, 255)


def test_missing_glyph_warns_and_draws_a_box(tmp_path: Path) -> None:
    """A character no font has is named in a warning and drawn as a box, so that the mark keeps its place."""
    write_font(tmp_path / "A-Bold.ttf", "ab□")
    image, warnings = signed("a한b한", FontShelf([tmp_path]))
    assert warnings == ("signature: no font here has '한' (U+D55C)",)
    assert image.tobytes() == signed("a□b□", FontShelf([tmp_path]))[0].tobytes()


def test_unprintable_characters_are_named_by_number(tmp_path: Path) -> None:
    """A missing private or unassigned character is named by its code point alone."""
    write_font(tmp_path / "A-Bold.ttf", "a")
    assert signed("a\ue000\U0010fffe", FontShelf([tmp_path]))[1] == ("signature: no font here has U+E000, U+10FFFE",)


def test_no_fonts_at_all(tmp_path: Path) -> None:
    """With no font installed Pillow's own draws Latin text without a warning, and boxes for the rest with one."""
    shelf = FontShelf([tmp_path, tmp_path / "missing"])
    assert signed("Jane Doe", shelf)[1] == ()
    image, warnings = signed("홍길동", shelf)
    assert warnings == ("signature: no font here has '홍' (U+D64D), '길' (U+AE38), '동' (U+B3D9)",)
    assert changed(plain(512, 512), image)[:2] == (10, 10)


def test_damaged_fonts_are_passed_over(tmp_path: Path) -> None:
    """Files that are no fonts, or cut short, do not stop the others."""
    whole = write_font(tmp_path / "C-Bold.ttf", "ab").read_bytes()
    (tmp_path / "A-Bold.ttf").write_bytes(b"not a font")
    (tmp_path / "B-Bold.ttf").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "DejaVuSans-Bold.otf").write_bytes(b"")
    (tmp_path / "readme.txt").write_text("no font either")
    shelf = FontShelf([tmp_path])
    assert faces(shelf, "ab") == [("a", "C-Bold"), ("b", "C-Bold")]
    assert signed("ab", shelf)[1] == ()


def test_right_to_left_runs_stand_from_the_right(tmp_path: Path) -> None:
    """In right-to-left text the first font's run stands to the right of the second's; else to its left."""
    write_font(tmp_path / "A-Bold.ttf", "aא", height=HIGH)
    write_font(tmp_path / "B-Bold.ttf", "홍", height=LOW)
    high_side = {}
    for text in ("a홍", "א홍"):
        image = signed(text, FontShelf([tmp_path]))[0]
        left, top, right, _ = changed(plain(512, 512), image)
        upper_left = changed(plain(512, 512), image.crop((0, 0, 512, top + 20)).resize((512, 512)))[0]
        high_side[text] = "left" if upper_left < (left + right) / 2 else "right"
    assert high_side == {"a홍": "left", "א홍": "right"}


def test_the_shelf_is_read_once_by_many_threads(tmp_path: Path) -> None:
    """Threads that need a shelf at the same time get the same faces."""
    write_font(tmp_path / "A-Bold.ttf", "ab")
    shelf = FontShelf([tmp_path])
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: shelf.clusters("ab")[0][0].face, range(64)))
    assert len(set(found)) == 1


def test_folders_are_read_lazily(tmp_path: Path) -> None:
    """Making a shelf touches no disk: fonts put there before its first use are found."""
    shelf = FontShelf([tmp_path])
    write_font(tmp_path / "A-Bold.ttf", "a")
    assert faces(shelf, "a") == [("a", "A-Bold")]


def test_this_machines_shelf_is_one() -> None:
    """Every caller gets the same shelf of installed fonts."""
    assert installed_fonts() is installed_fonts()


@pytest.mark.parametrize("text", ["홍길동", "서명 by 김", "😀", "👩‍👩‍👧‍👦", "漢字"])
def test_hangul_and_emoji_as_installed(text: str) -> None:
    """Hangul, Han and emoji are drawn where a font has them, and otherwise each missing one is named."""
    shelf = installed_fonts()
    _, missing = shelf.clusters(text)
    image, warnings = sign(plain(512, 512), Signature(TextMark(text)))
    assert changed(plain(512, 512), image)[2:] == (502, 502)
    named = [warning for warning in warnings if "no font here has" in warning]
    assert len(named) == bool(missing)
    assert all(f"U+{ord(character):04X}" in named[0] for character in missing)


@pytest.mark.parametrize(
    ("text", "clusters"),
    [
        ("ab", ["a", "b"]),
        ("e\u0301x", ["e\u0301", "x"]),
        ("👩‍👩‍👧x", ["👩‍👩‍👧", "x"]),
        ("👍🏽👍", ["👍🏽", "👍"]),
        ("🇰🇷🇫🇷", ["🇰🇷", "🇫🇷"]),
        ("❤️a", ["❤️", "a"]),
        ("\u0301a", ["\u0301", "a"]),
    ],
)
def test_clusters(text: str, clusters: list[str]) -> None:
    """Accents, joined emoji, skin tones and flags stay in one piece."""
    assert split_clusters(text) == clusters
