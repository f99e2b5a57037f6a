"""The files that say who an adapter's artist is."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ai.cards import ModelCard
from factory.artists import read_artists
from server.commands import AdapterUse
from server.errors import Refusal
from watermark import ImageMark, Position, Signature, Size, TextMark


def signature_of(folder: Path, adapter: str = "neon") -> Signature | None:
    """What `adapter`, a file or a folder in `folder`, is signed with."""
    paths = {"neon": folder / "neon.safetensors", "chalk": folder / "chalk"}
    return read_artists([ModelCard(name="m", source="", adapters=paths)]).signature("m", [AdapterUse(adapter)])


def a_png() -> bytes:
    """A small red picture."""
    file = BytesIO()
    Image.new("RGBA", (8, 4), (200, 0, 0, 255)).save(file, "PNG")
    return file.getvalue()


def test_a_name_is_enough(tmp_path: Path) -> None:
    """It is the mark and the metadata, for a file and for a folder; where there is no such file there is no artist."""
    (tmp_path / "neon.artist.toml").write_text('name = "Nia"')
    (tmp_path / "chalk.artist.toml").write_text('name = "Kalle"')
    assert signature_of(tmp_path) == Signature(TextMark("Nia"), artist="Nia")
    assert signature_of(tmp_path, "chalk") == Signature(TextMark("Kalle"), artist="Kalle")
    (tmp_path / "chalk.artist.toml").unlink()
    assert signature_of(tmp_path, "chalk") is None


def test_everything_can_be_said(tmp_path: Path) -> None:
    """Text, position, size and opacity; a PNG takes the text's place."""
    (tmp_path / "neon.artist.toml").write_text(
        'name = "Nia Luz"\ntext = "Nia"\nposition = "top-left"\nsize = "small"\nopacity = 0.5'
    )
    wanted = Signature(TextMark("Nia"), Position.TOP_LEFT, Size.SMALL, 0.5, "Nia Luz")
    assert signature_of(tmp_path) == wanted
    (tmp_path / "neon.artist.png").write_bytes(a_png())
    signature = signature_of(tmp_path)
    assert signature is not None
    assert signature.mark == ImageMark(a_png())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"name = ", "neon.artist.toml: "),
        (b"name = '\xff'", "neon.artist.toml: "),
        (b"text = 'Nia'", "name: missing"),
        (b"name = 3", "name: must be a text, not 3"),
        (b"name = 'Nia'\nsign = 'x'", "sign: no such entry; there are name, text, position, size, opacity"),
        (b"name = 'Nia'\nposition = 'middle'", "position must be one of top-left"),
        (b"name = 'Nia'\nsize = 'huge'", "size must be one of small, medium, large"),
        (b"name = 'Nia'\nopacity = 2", "opacity must be 0 to 1"),
        (b"name = 'Nia'\nopacity = true", "opacity must be 0 to 1"),
        (b"name = 'Nia'\ntext = ' '", "text must be at least 1 visible character"),
        (b"#" * 70_000, "too large; at most 65,536 bytes are read"),
    ],
)
def test_a_wrong_file_is_told_when_it_would_sign(tmp_path: Path, content: bytes, told: str) -> None:
    """The refusal names file, field and limit; an adapter beside it is signed as ever."""
    (tmp_path / "neon.artist.toml").write_bytes(content)
    (tmp_path / "chalk.artist.toml").write_text('name = "Kalle"')
    with pytest.raises(Refusal) as caught:
        signature_of(tmp_path)
    assert told in str(caught.value)
    assert signature_of(tmp_path, "chalk") is not None


def test_a_wrong_picture_is_told(tmp_path: Path) -> None:
    """One that is no PNG, and one that is a link to somewhere else, by name."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "neon.artist.toml").write_text('name = "Nia"')
    picture = tmp_path / "own" / "neon.artist.png"
    picture.write_bytes(b"GIF89a")
    with pytest.raises(Refusal, match="not a PNG file"):
        signature_of(tmp_path / "own")
    picture.unlink()
    (tmp_path / "elsewhere.png").write_bytes(a_png())
    picture.symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(Refusal, match=r"neon\.artist\.png: a link that leaves the folder"):
        signature_of(tmp_path / "own")
