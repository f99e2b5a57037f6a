"""atelier.files and atelier.contact_sheet: what is written where."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from atelier.contact_sheet import COLUMNS, write_contact_sheet
from atelier.files import stem, write_pictures, write_preview
from server.events import Artifact, Preview


def _artifact(index: int) -> Artifact:
    return Artifact(
        image_index=index, key="", url="", size=1, sha256="", content_type="image/png", width=1, height=1, seed=0
    )


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("A big red Star!", "a-big-red-star-0123abcd"),
        ("../../etc/passwd", "etc-passwd-0123abcd"),
        ("星", "picture-0123abcd"),
        ("x" * 500, "x" * 48 + "-0123abcd"),
    ],
)
def test_names_are_readable_and_stay_in_their_folder(prompt: str, expected: str) -> None:
    """Only plain letters and digits of the prompt are used, and not too many."""
    assert stem(prompt, "0123abcd4567") == expected
    assert stem(prompt, "../0123abcd") == expected


def test_pictures_are_written_under_their_numbers(tmp_path: Path) -> None:
    """The folder is made, and each picture has its index in its name."""
    out = tmp_path / "new" / "folder"
    paths = write_pictures(out, "a star", "0123abcd", [_artifact(0), _artifact(1)], [b"one", b"two"])
    assert [path.name for path in paths] == ["a-star-0123abcd-0.png", "a-star-0123abcd-1.png"]
    assert [path.read_bytes() for path in paths] == [b"one", b"two"]


def test_previews_are_written_beside_them(tmp_path: Path) -> None:
    """A preview's name says its step."""
    write_preview(tmp_path, "a star", Preview(number=3, job_id="0123abcd", image_index=1, step=5, png=b"p"))
    assert (tmp_path / "a-star-0123abcd-1-step005.png").read_bytes() == b"p"


@pytest.mark.parametrize("count", [1, COLUMNS, COLUMNS + 1])
def test_a_contact_sheet_has_a_place_for_each(tmp_path: Path, count: int) -> None:
    """The sheet grows by rows, and shows the pictures' colours."""
    pictures = []
    for index in range(count):
        path = tmp_path / f"{index}.png"
        Image.new("RGB", (64, 32), (200, 10, 10)).save(path)
        pictures.append((path, "a very long prompt " * 10))
    with Image.open(write_contact_sheet(tmp_path, pictures)) as sheet:
        assert sheet.width > sheet.height or count == 1
        assert (200, 10, 10) in {colour for _, colour in sheet.getcolors(1 << 20) or []}
