"""Pictures are held against what was asked for, and marks against their place."""

from __future__ import annotations

import pytest
from PIL import Image

from bot.checking import apart, mark_wrongs, wrongs_of
from server.events import Artifact
from tests.bot.visits import order
from watermark import Position, Signature, TextMark, encode_png, sign

GREY = Image.new("RGB", (128, 128), (90, 120, 150))
TOLD = {"job_id": "j", "image_index": "0", "prompt": "a red star", "seed": "7", "steps": "2"}


def _artifact(width: int = 128) -> Artifact:
    return Artifact(
        image_index=0, key="k", url="", size=1, sha256="", content_type="image/png", width=width, height=128, seed=7
    )


def test_a_good_picture_has_nothing_wrong() -> None:
    """Its size, and what it says of itself, are what was asked for."""
    assert wrongs_of(order(), "j", [_artifact()], [encode_png(GREY, TOLD)]) == []


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seed": "8"}, "its seed is '8', not '7'"),
        ({"prompt": "another's"}, "its prompt is \"another's\", not 'a red star'"),
        ({"job_id": "k"}, "its job_id is 'k', not 'j'"),
        ({"steps": "3"}, "its steps is '3', not '2'"),
    ],
)
def test_another_s_metadata_is_found(changed: dict[str, str], said: str) -> None:
    """Whichever entry is another's."""
    assert wrongs_of(order(), "j", [_artifact()], [encode_png(GREY, TOLD | changed)]) == [f"picture 0: {said}"]


def test_what_is_damaged_missing_or_of_another_size_is_found() -> None:
    """Each in words."""
    png = encode_png(GREY, TOLD)
    (cut,) = wrongs_of(order(), "j", [_artifact()], [png[: len(png) // 2]])
    assert "cannot be read" in cut
    assert "2 pictures were asked for, 1 came" in wrongs_of(order(num_images=2), "j", [_artifact()], [png])[0]
    assert "64 x 128 was told" in wrongs_of(order(), "j", [_artifact(64)], [png])[0]
    assert "256 x 128 was asked for" in wrongs_of(order(width=256, height=128), "j", [_artifact()], [png])[0]


def test_a_signature_s_artist_has_to_be_told() -> None:
    """Else the picture is not signed."""
    png = encode_png(GREY, TOLD)
    assert wrongs_of(order(signature="Mina"), "j", [_artifact()], [png]) == [
        "picture 0: its artist is None, not 'Mina'"
    ]
    signed = encode_png(GREY, TOLD | {"artist": "Mina"})
    assert wrongs_of(order(signature="Mina"), "j", [_artifact()], [signed]) == []


def test_how_far_pictures_are_apart() -> None:
    """In levels of the farthest channel; of another size, as far as can be."""
    near = Image.new("RGB", (128, 128), (90, 123, 150))
    assert apart(encode_png(GREY, {}), encode_png(near, {})) == 3
    assert apart(encode_png(GREY, {}), encode_png(GREY.resize((64, 64)), {})) == 255


def test_a_mark_has_to_stand_in_its_corner() -> None:
    """None at all, or one elsewhere, is found."""
    bare = encode_png(GREY, {})
    right, _ = sign(GREY, Signature(TextMark("Mina")))
    wrong, _ = sign(GREY, Signature(TextMark("Mina"), position=Position.TOP_LEFT))
    assert mark_wrongs(encode_png(right, {}), bare, 1) == ""
    assert mark_wrongs(bare, bare, 1) == "no mark can be seen on it"
    assert "not the bottom right corner" in mark_wrongs(encode_png(wrong, {}), bare, 1)
