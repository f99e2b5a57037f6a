"""Which model is taken where: MODEL_ID or ATELIER_MODELS, else what lies in ./model, else the embedded one."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai.cards import MARKS as KNOWN_TO_CARDS
from config import Settings, load_settings
from config.local_model import FOLDER, MARKS
from config.settings import DEMO_MODEL, TEXT_DEMO_MODEL, environment_names


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty working folder, and no setting of the machine."""
    for name in {name for field in Settings.model_fields for name in environment_names(field)}:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("mark", MARKS)
def test_what_lies_in_the_folder_model_is_the_default(mark: str) -> None:
    """In whichever way a folder holds a model."""
    FOLDER.mkdir()
    (FOLDER / mark).touch()
    assert load_settings().model_sources() == {"model": str(Path.cwd() / "model")}


@pytest.mark.parametrize("named", [{"model_id": "org/x"}, {"models": "a=/a"}])
def test_a_model_that_a_setting_names_comes_first(named: dict[str, str]) -> None:
    """Then the folder is not looked at."""
    FOLDER.mkdir()
    (FOLDER / "model_index.json").touch()
    assert len(load_settings(**named).model_sources()) == 1
    assert "model" not in load_settings(**named).model_sources()


def test_a_folder_without_a_model_is_left_alone() -> None:
    """It may be anything, a program's package for one; nor is a file of that name a model."""
    FOLDER.mkdir()
    (FOLDER / "__init__.py").touch()
    (FOLDER / "sd_xl_refiner_1.0.safetensors").touch()
    assert load_settings().model_sources() == {"demo": str(DEMO_MODEL), "text-demo": str(TEXT_DEMO_MODEL)}


def test_the_marks_are_those_that_cards_know() -> None:
    """Two floors, one list."""
    assert set(MARKS) == set(KNOWN_TO_CARDS)
