"""`atelier demo`, whole: a server, pictures, a contact sheet, and nothing left running."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

from atelier.demo import PROMPTS
from tests.atelier.command import run


@pytest.mark.slow
async def test_the_demo_paints_and_cleans_up(tmp_path: Path) -> None:
    """Whatever the environment's settings are, the pictures and the sheet are there at the end."""
    ended = await run("demo", "--count=2", f"--out={tmp_path}", ATELIER_DEVICE="nonsense", ATELIER_UNKNOWN="1")
    assert ended.status == 0, ended.err
    assert f"all of them: {tmp_path / 'contact-sheet.png'}" in ended.out
    assert sum(name.startswith("a-big-") for name in os.listdir(tmp_path)) == 2
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width > 2 * 224
    assert "stopping the server" in ended.err
    assert "Traceback" not in ended.err


def test_the_prompts_are_ten_different_ones() -> None:
    """Ten prompts, each once."""
    assert len({prompt for prompt, _ in PROMPTS}) == 10
