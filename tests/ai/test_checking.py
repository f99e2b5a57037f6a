"""Files that users name, looked at before anything of them is loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from ai.cards import ModelCard
from ai.families.checking import check_safetensors, look, look_at_text
from ai.text.cards import TextCard
from ai.types import ModelLoadError
from config.painting import DEMO_MODEL


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The embedded model's files, to spoil."""
    return shutil.copytree(DEMO_MODEL, tmp_path / "fox", ignore=shutil.ignore_patterns("adapters", "scorer", "*.png"))


def test_a_sound_folder_has_a_card_a_size_and_an_id(copy: Path) -> None:
    """The id is of names and contents alone: the same elsewhere, another when a byte changes."""
    found = look("ada/fox:1@a", copy)
    assert isinstance(found.card, ModelCard)
    assert (found.card.name, found.card.family, found.card.defaults.width) == ("ada/fox:1@a", "sd15", 128)
    assert found.numbers > 1_000_000
    moved = copy.rename(copy.with_name("hen"))
    assert look("n", moved).content_id == found.content_id
    (moved / "card.toml").write_text('description = "another"\nfamily = "sd15"\n')
    assert look("n", moved).content_id != found.content_id


def _pickle(folder: Path) -> None:
    (folder / "vae" / "weights.CKPT").write_bytes(b"x")


def _code(folder: Path) -> None:
    (folder / "pipeline.py").write_text("import os")


def _link(folder: Path) -> None:
    (folder / "unet" / "more.json").symlink_to("/etc/hostname")


def _elsewhere(folder: Path) -> None:
    (folder / "card.toml").write_text('source = "/srv/others"\n')


def _no_card(folder: Path) -> None:
    (folder / "card.toml").write_text("description = ")


def _no_unet(folder: Path) -> None:
    for path in (folder / "unet").glob("*.safetensors"):
        path.unlink()


def _unknown(folder: Path) -> None:
    (folder / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')


def _nothing(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    (folder / "card.toml").unlink()


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_pickle, r"vae/weights.CKPT: a pickle"),
        (_code, r"pipeline.py: code"),
        (_link, r"unet/more.json: a link"),
        (_elsewhere, r"card.toml: source: leads to other files"),
        (_no_card, r"card.toml: "),
        (_no_unet, r"unet: holds no .safetensors"),
        (_unknown, r"OtherPipeline' is not known"),
        (_nothing, r"fox: holds none of"),
    ],
)
def test_what_is_wrong_is_told_without_the_machine_s_folders(copy: Path, spoil: object, problem: str) -> None:
    """By the file's name in the model."""
    assert callable(spoil)
    spoil(copy)
    with pytest.raises(ModelLoadError, match=problem) as caught:
        look("n", copy)
    assert str(copy.parent) not in str(caught.value)


def test_a_file_that_is_no_whole_safetensors_file_is_found_out(tmp_path: Path) -> None:
    """Cut short, longer than it says, a header that is none, tensors over each other."""
    path = tmp_path / "a.safetensors"
    save_file({"a": np.zeros((2, 3), np.float32), "b": np.zeros(4, np.float32)}, path)
    assert check_safetensors(path, tmp_path) == 10
    sound = path.read_bytes()
    spans = {"a": [0, 4], "b": [2, 6]}
    header = json.dumps({name: {"dtype": "F32", "shape": [1], "data_offsets": span} for name, span in spans.items()})
    overlapping = len(header).to_bytes(8, "little") + header.encode() + bytes(6)
    for spoiled in (sound[:-1], sound + b"x", b"", b"\x05" + bytes(7) + b"nojson", overlapping):
        path.write_bytes(spoiled)
        with pytest.raises(ModelLoadError, match=r"a.safetensors: "):
            check_safetensors(path, tmp_path)


def test_a_text_model_is_a_folder_with_its_configuration(tmp_path: Path) -> None:
    """And weights; code beside it is refused."""
    folder = tmp_path / "poet"
    folder.mkdir()
    with pytest.raises(ModelLoadError, match="causal language model"):
        look_at_text("n", folder)
    (folder / "config.json").write_text('{"architectures": ["GPT2LMHeadModel"], "n_positions": 64}')
    save_file({"wte": np.zeros((5, 2), np.float32)}, folder / "model.safetensors")
    found = look_at_text("n", folder)
    assert isinstance(found.card, TextCard)
    assert (found.card.context, found.numbers) == (64, 10)
    (folder / "modeling.py").write_text("import os")
    with pytest.raises(ModelLoadError, match=r"modeling.py: code"):
        look_at_text("n", folder)
