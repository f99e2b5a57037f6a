"""`python -m models.check`: one JSON line, and how pictures come to it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ai.types import EngineError
from models.check import DEMO, choose, main
from models.painting import Wish, paint
from models.training.world import held_out

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

FIGURES = ["colour", "background", "shape", "size", "place", "style", "style_keeps_prompt", "scorer"]


def test_one_line_of_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every figure has its place; what the folder has not is null; drawings are all right."""
    main(["--drawn", "--count=6", "--styled=0", "--model", str(tmp_path), "--sheet", str(tmp_path / "sheet.png")])
    (line,) = capsys.readouterr().out.splitlines()
    figures = json.loads(line)
    assert sorted(figures) == sorted(FIGURES)
    assert {figures[name] for name in FIGURES[:5]} == {1.0}
    assert figures["scorer"] is None
    assert (tmp_path / "sheet.png").stat().st_size > 500


def test_scenes_are_chosen_evenly() -> None:
    """From all over the list, each once, and others for another start."""
    some, others = choose(held_out(), 40), choose(held_out(), 40, 37)
    assert len(set(some)) == len(set(others)) == 40
    assert len({scene.colour for scene in some}) == 12
    assert some != others


def test_the_engine_paints_what_is_wished() -> None:
    """In the wishes' order; the same wish gives the same picture; a style that is not there is an error."""
    wishes = [Wish("a red star on a blue background", 1), Wish("a green circle on a white background", 2)]
    first, second = paint(DEMO, wishes, steps=2)
    (again,) = paint(DEMO, wishes[1:], steps=2)
    assert first.size == (128, 128)
    assert np.abs(np.asarray(second).astype(int) - np.asarray(again)).max() <= 2
    assert np.abs(np.asarray(first).astype(int) - np.asarray(second)).max() > 20
    with pytest.raises(EngineError, match="nothing-of-that-name"):
        paint(DEMO, [Wish("a star", 1, "nothing-of-that-name")], steps=1)
