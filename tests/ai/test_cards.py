"""What a card says of a model before its weights are read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ai.cards import read_card, with_default_solver, with_refiners
from ai.schedules import SOLVERS
from ai.types import ModelLoadError


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a model whose DDIM would have to clip."""
    return configured(tmp_path, clip_sample=True)


def configured(folder: Path, **scheduler: object) -> Path:
    """A folder with a scheduler's configuration."""
    (folder / "scheduler").mkdir(parents=True)
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    return folder


def test_a_model_offers_the_solvers_that_its_schedule_allows(model: Path) -> None:
    """Those that cannot follow the scheduler configuration are left out; where there is none to read, none is."""
    assert read_card("m", str(model)).solvers == ("dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_a")
    assert read_card("m", "somewhere/on-the-hub").solvers == SOLVERS
    for damaged in ("{", "[]", json.dumps({"prediction_type": "sample"})):
        (model / "scheduler" / "scheduler_config.json").write_text(damaged)
        assert read_card("m", str(model)).solvers == SOLVERS  # loading will say what is wrong


def test_a_card_names_the_solvers_it_offers(model: Path) -> None:
    """In the card's order, each once: its first is the model's default."""
    (model / "card.toml").write_text('solvers = ["euler_a", "euler", "euler_a"]')
    assert read_card("m", str(model)).solvers == ("euler_a", "euler")
    (model / "card.toml").write_text('solvers = ["euler", "lcm"]')
    with pytest.raises(ModelLoadError, match=r"solvers: 'lcm' cannot follow the model's scheduler; there are dpmpp_2m"):
        read_card("m", str(model))


@pytest.mark.parametrize("given", ['["heun"]', "[]", '"euler"', "[1]"])
def test_solvers_that_do_not_exist_are_refused(given: str, model: Path) -> None:
    """With the names of those that do."""
    (model / "card.toml").write_text(f"solvers = {given}")
    with pytest.raises(ModelLoadError, match=r"card.toml: solvers: must be a list of one or more of dpmpp_2m, .*, lcm"):
        read_card("m", str(model))


def test_a_default_solver(model: Path) -> None:
    """It becomes the first of a card's; one that the card does not offer is refused with the names of those it does."""
    card = read_card("m", str(model))
    assert with_default_solver(card, "euler").solvers == ("euler", "dpmpp_2m", "dpmpp_2m_karras", "euler_a")
    with pytest.raises(ModelLoadError, match=r"m: does not offer the solver 'ddim'; there are dpmpp_2m, .*, euler_a$"):
        with_default_solver(card, "ddim")


def test_a_model_and_its_refiner_offer_what_both_can_follow(tmp_path: Path) -> None:
    """A solver that the refiner could not go on with is not offered, and refused where the card names it."""
    base = configured(tmp_path / "base")
    configured(tmp_path / "refiner", clip_sample=True)
    card = read_card("xl", write(base, 'refiner = "../refiner"'))
    assert card.solvers == ("dpmpp_2m", "dpmpp_2m_karras", "euler", "euler_a")
    with pytest.raises(
        ModelLoadError, match=r"solvers: the refiner .*refiner cannot go on with ddim, lcm; it offers dp"
    ):
        read_card("xl", write(base, 'refiner = "../refiner"\nsolvers = ["ddim", "euler", "lcm"]'))
    assert read_card("xl", write(base, 'refiner = "../refiner"\nsolvers = ["euler"]')).solvers == ("euler",)


def test_a_refiner_with_which_no_solver_agrees(tmp_path: Path) -> None:
    """It is refused by name: no picture could be made of both."""
    base = configured(tmp_path / "base", algorithm_type="deis", interpolation_type="log_linear", clip_sample=True)
    refiner = configured(tmp_path / "refiner")
    write(refiner, 'solvers = ["ddim"]')
    with pytest.raises(ModelLoadError, match=r"refiner: the refiner .* cannot go on with euler_a; it offers ddim$"):
        read_card("xl", write(base, 'refiner = "../refiner"'))


def test_how_many_steps_a_solver_can_make(tmp_path: Path) -> None:
    """By the scheduler configurations of the model and of its refiner, whichever allows fewer."""
    base = configured(tmp_path / "base", original_inference_steps=40, timestep_spacing="leading")
    configured(tmp_path / "refiner", original_inference_steps=30, num_train_timesteps=500)
    expected = {"dpmpp_2m": 999, "euler": 1000, "euler_a": 1000, "ddim": 1000, "lcm": 40}
    assert read_card("xl", str(base)).most_steps == expected
    both = read_card("xl", write(base, 'refiner = "../refiner"')).most_steps
    assert both == {"dpmpp_2m": 499, "euler": 1000, "euler_a": 1000, "ddim": 500, "lcm": 30}
    assert read_card("hub", "somewhere/on-the-hub").most_steps["lcm"] == 50


def test_the_usual_size_is_the_network_s(tmp_path: Path) -> None:
    """Eight pixels for each of the UNet's own; the card's, if it names one; the family's, where nothing can be read."""
    (tmp_path / "unet").mkdir()
    config = tmp_path / "unet" / "config.json"
    for text, size in (
        ('{"sample_size": 96}', 768), ('{"sample_size": [96, 64]}', 512), ('{"sample_size": true}', 512),
        ("{}", 512), ("[]", 512), ("{", 512),
    ):  # fmt: skip
        config.write_text(text)
        assert (read_card("m", str(tmp_path)).defaults.width, read_card("m", str(tmp_path)).defaults.height) == (
            size,
        ) * 2
    config.write_text('{"sample_size": 96}')
    defaults = read_card("m", write(tmp_path, "[defaults]\nwidth = 640")).defaults
    assert (defaults.width, defaults.height) == (640, 768)


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


def test_a_folder_of_single_files(folder: Path) -> None:
    """The base model under its published name; beside it the refiner and the VAE, where they are."""
    base = folder / "sd_xl_base_1.0.safetensors"
    base.touch()
    alone = read_card("model", str(folder))
    assert (alone.source, alone.refiner, alone.vae) == (str(base), None, "")
    for name in ("sd_xl_refiner_1.0.safetensors", "sdxl.vae.safetensors"):
        (folder / name).touch()
    card = read_card("model", str(folder))
    assert card.source == str(base)
    assert card.refiner is not None
    assert (card.refiner.name, card.refiner.source) == ("model:refiner", str(folder / "sd_xl_refiner_1.0.safetensors"))
    assert card.vae == str(folder / "sdxl.vae.safetensors")
    write(folder, 'refiner = "somewhere/else"\nrefiner_switch = 0.7')
    told = read_card("model", str(folder))
    assert told.refiner is not None
    assert (told.source, told.refiner.source, told.refiner_switch) == (str(base), "somewhere/else", 0.7)


def test_a_diffusers_folder_is_read_as_one_whatever_lies_beside(folder: Path) -> None:
    """As the hub's own repositories hold a model in both ways; and a refiner by itself is no base model."""
    (folder / "sd_xl_refiner_1.0.safetensors").touch()
    assert read_card("model", str(folder)).source == str(folder)
    (folder / "sd_xl_base_1.0.safetensors").touch()
    (folder / "model_index.json").write_text("{}")
    card = read_card("model", str(folder))
    assert (card.source, card.refiner, card.vae) == (str(folder), None, "")
