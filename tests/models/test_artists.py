"""The artists of the ten styles."""

from __future__ import annotations

from pathlib import Path

from ai.cards import ModelCard
from ai.types import AdapterUse
from factory.artists import read_artists
from models.check import DEMO
from models.training.artists import ARTISTS, write
from models.training.styles import STYLES
from watermark import ImageMark

FILES = {path.name: path.read_bytes() for path in sorted((DEMO / "adapters").glob("*.artist.*"))}


def test_every_style_has_an_artist_with_a_mark_of_their_own() -> None:
    """As the server reads the committed files: ten names, ten marks, some of them pictures; small files."""
    paths = {style: DEMO / "adapters" / style for style in STYLES}
    artists = read_artists([ModelCard(name="demo", source=str(DEMO), adapters=paths)])
    signatures = [artists.signature("demo", [AdapterUse(style)]) for style in STYLES]
    assert [signature.artist for signature in signatures if signature] == [artist.name for artist in ARTISTS.values()]
    assert len({signature.mark for signature in signatures if signature}) == 10
    assert sum(isinstance(signature.mark, ImageMark) for signature in signatures if signature) == 5
    assert sum(map(len, FILES.values())) < 20_000


def test_the_committed_files_are_what_the_command_writes(tmp_path: Path) -> None:
    """The same names and texts; the same pictures."""
    write(tmp_path)
    assert {path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())} == FILES
