"""`atelier demo`, whole: a server, pictures, a contact sheet, and nothing left running."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from ai.adapters.folder import find_adapters
from atelier.child import ROOT
from atelier.demo import PROMPTS
from tests.atelier.command import run
from watermark import read_metadata


def metadata_in(folder: Path, *keys: str) -> list[tuple[str, ...]]:
    """What the pictures in a folder say of themselves, by their files' names."""
    told = [read_metadata(path.read_bytes()) for path in sorted(folder.glob("a-big-*.png"))]
    return [tuple(each[key] for key in keys) for each in told]


@pytest.mark.slow
async def test_the_demo_paints_and_cleans_up(tmp_path: Path) -> None:
    """Whatever the environment's settings are, the pictures and the sheet are there at the end."""
    ended = await run("demo", "--count=2", f"--out={tmp_path}", ATELIER_DEVICE="nonsense", ATELIER_UNKNOWN="1")
    assert ended.status == 0, ended.err
    assert f"all of them: {tmp_path / 'contact-sheet.png'}" in ended.out
    assert metadata_in(tmp_path, "adapters", "artist") == [("pixel:1", "Bo Byte"), ("outline:1", "Ines Linhart")]
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width > 2 * 224
    assert "stopping the server" in ended.err
    assert "Traceback" not in ended.err


def test_the_prompts_are_ten_different_ones() -> None:
    """Ten prompts in ten styles, each once: every style that the embedded model has."""
    assert len({prompt for _, prompt, _ in PROMPTS}) == 10
    assert {style for style, _, _ in PROMPTS} == set(find_adapters(ROOT / "models/demo/adapters"))
