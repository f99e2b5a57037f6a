"""What a card says of a model before its weights are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ai.cards import read_card, with_refiners
from ai.schedules import SOLVERS
from ai.types import ModelLoadError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model whose DDIM would have to clip."""
    (tmp_path / "scheduler").mkdir()
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"clip_sample": True}))
    return tmp_path


def test_a_model_offers_the_solvers_that_its_schedule_allows(model: Path) -> None:
    """Those that cannot follow the scheduler configuration are left out; where there is none to read, none is."""
    assert read_card("m", str(model)).solvers == ("dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_a")
    assert read_card("m", "somewhere/on-the-hub").solvers == SOLVERS
    for damaged in ("{", "[]", json.dumps({"prediction_type": "sample"})):
        (model / "scheduler" / "scheduler_config.json").write_text(damaged)
        assert read_card("m", str(model)).solvers == SOLVERS  # loading will say what is wrong


def test_a_card_names_the_solvers_it_offers(model: Path) -> None:
    """In the card's order, each once: its first is the model's default."""
    (model / "card.toml").write_text('solvers = ["lcm", "euler", "lcm"]')
    assert read_card("m", str(model)).solvers == ("lcm", "euler")


@pytest.mark.parametrize("given", ['["heun"]', "[]", '"euler"', "[1]"])
def test_solvers_that_do_not_exist_are_refused(given: str, model: Path) -> None:
    """With the names of those that do."""
    (model / "card.toml").write_text(f"solvers = {given}")
    with pytest.raises(ModelLoadError, match=r"card.toml: solvers: must be a list of one or more of dpmpp_2m, .*, lcm"):
        read_card("m", str(model))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder that holds nothing yet."""
    (tmp_path / "model").mkdir()
    return tmp_path / "model"


def write(folder: Path, text: str) -> str:
    """Write the folder's card; gives the folder as a source."""
    (folder / "card.toml").write_text(text)
    return str(folder)


def test_a_card_may_name_what_it_is_of(folder: Path) -> None:
    """A source is seen from the card's folder, where there is such a thing; else it is a hub id or another path."""
    (folder / "weights.safetensors").touch()
    beside = read_card("one", write(folder, 'source = "weights.safetensors"'))
    away = read_card("one", write(folder, 'source = "somebody/something"\nfamily = "sdxl"'))
    assert beside.source == str(folder / "weights.safetensors")
    assert away.source == "somebody/something"
    assert away.defaults.width == 1024


def test_a_card_may_name_a_refiner(folder: Path) -> None:
    """The refiner is a card of its own, under a name that no setting can give."""
    (folder.parent / "second").mkdir()
    card = read_card("xl", write(folder, 'refiner = "../second"\nrefiner_switch = 0.7'))
    assert card.refiner is not None
    assert card.refiner.name == "xl:refiner"
    assert Path(card.refiner.source).resolve() == folder.parent / "second"
    assert card.refiner_switch == 0.7
    assert [each.name for each in with_refiners([card, read_card("plain", "nowhere")])] == ["xl", "plain", "xl:refiner"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("refiner = 3", "refiner: must be str, is 3"),
        ("source = true", "source: must be str"),
        ('refiner = "."', "refiner: this is a refiner's own card"),
        ("refiner_switch = 1.0", "refiner_switch: must be between 0 and 1, is 1.0"),
        ("refiner_switch = nan", "refiner_switch: must be between 0 and 1"),
        ("defaults = 3", "defaults: must be dict"),
        ('refinement = "x"', "refinement: no such entry; there are description, family, source, refiner"),
        ("[defaults]\nwidth = 1.5", "defaults.width: must be int, is 1.5"),
        ("not = = toml", "card.toml: "),
    ],
)
def test_what_no_card_says(text: str, problem: str, folder: Path) -> None:
    """An entry that does not exist, or is of another kind, is refused by its name."""
    with pytest.raises(ModelLoadError, match=problem):
        read_card("one", write(folder, text))
