"""Which adapters lie in a folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ai.adapters.folder import find_adapters
from ai.cards import read_card
from ai.types import AdapterError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder of adapters."""
    (tmp_path / "adapters").mkdir()
    return tmp_path / "adapters"


def test_files_and_folders_are_adapters(folder: Path) -> None:
    """NAME.safetensors and NAME/ are both called NAME; what else lies there is none."""
    (folder / "neon.v2").mkdir()
    for name in ("chalk_1.safetensors", "README.md", ".hidden.safetensors", "list.json"):
        (folder / name).touch()
    assert find_adapters(folder) == {"chalk_1": folder / "chalk_1.safetensors", "neon.v2": folder / "neon.v2"}


@pytest.mark.parametrize("name", ["my style", "é", "x" * 65, "a;b", "a\nb"])
def test_names_that_need_quoting_are_left_out(name: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With a line in the log that says so."""
    (folder / f"{name}.safetensors").touch()
    (folder / "good.safetensors").touch()
    assert list(find_adapters(folder)) == ["good"]
    assert "is left out: a name has 1 to 64" in caplog.text


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin", ".pth", ".pkl"])
def test_pickles_are_left_out(suffix: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A pickle is no adapter, and the log says why."""
    (folder / f"neon{suffix}").touch()
    assert find_adapters(folder) == {}
    assert f"{suffix} files are pickles" in caplog.text


def test_one_name_twice(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of a folder and a file with the same name the first in order is taken, and the log names both."""
    (folder / "neon").mkdir()
    (folder / "neon.safetensors").touch()
    assert find_adapters(folder) == {"neon": folder / "neon"}
    assert "neon.safetensors is left out: neon has the same name" in caplog.text


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret.safetensors", "..", "loop.safetensors"])
def test_links_that_leave_the_folder_are_left_out(target: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Also links to folders, and links in a circle."""
    (folder.parent / "secret.safetensors").touch()
    (folder / "loop.safetensors").symlink_to(target)
    assert find_adapters(folder) == {}
    assert "a link that leaves the folder" in caplog.text


def test_links_inside_the_folder_are_taken(folder: Path) -> None:
    """A second name for an adapter; and the folder itself may be a link."""
    (folder / "neon.safetensors").touch()
    (folder / "glow.safetensors").symlink_to("neon.safetensors")
    linked = folder.parent / "linked"
    linked.symlink_to(folder)
    assert list(find_adapters(folder)) == list(find_adapters(linked)) == ["glow", "neon"]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Is an error with its name."""
    with pytest.raises(AdapterError, match="nowhere: cannot be listed: No such file"):
        find_adapters(tmp_path / "nowhere")


def test_a_card_lists_its_model_s_adapters_and_everybody_s(folder: Path) -> None:
    """By name; of two with the same name the model's own counts."""
    for name in ("neon", "chalk"):
        (folder / f"{name}.safetensors").touch()
    shared = {"neon": Path("shared/neon"), "ink": Path("shared/ink")}
    card = read_card("demo", str(folder.parent), shared)
    assert dict(card.adapters) == {
        "chalk": folder / "chalk.safetensors",
        "ink": Path("shared/ink"),
        "neon": folder / "neon.safetensors",
    }
    assert list(card.adapters) == ["chalk", "ink", "neon"]
    assert dict(read_card("single", "somewhere/model.safetensors").adapters) == {}


def test_listing_adapters_imports_no_torch() -> None:
    """A server lists them before torch is loaded."""
    program = "import sys, ai.adapters.folder, ai.cards; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
