"""What a stream model's folder says of it, and what it may not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ai.live.manifests import ManifestError, read_manifest, read_manifests
from tests.ai.live.programs import EYE, FACE


def folder(path: Path, manifest: str) -> Path:
    """One with a file that is called a program."""
    path.mkdir(parents=True)
    (path / "manifest.toml").write_text(manifest, encoding="utf-8")
    (path / "model.pt2").write_bytes(b"")
    return path


def test_a_manifest_is_read_whole(tmp_path: Path) -> None:
    """What it leaves out has a default."""
    found = read_manifest(folder(tmp_path / "a", FACE))
    assert (found.name, found.description, found.inputs, found.state) == ("face", "Sums", ("jaw", "smile"), 1)
    assert (found.outputs, found.tick_hz, found.input_bytes) == (("sum", "frames", "dt"), 30.0, 8)
    assert found.program == tmp_path / "a" / "model.pt2"
    eye = read_manifest(folder(tmp_path / "b", EYE))
    assert (eye.inputs, eye.height, eye.width, eye.state, eye.input_bytes) == ((), 2, 3, 0, 18)


@pytest.mark.parametrize(
    ("was", "instead", "told"),
    [
        ("name =", "nome =", "nome: no manifest has that"),
        ('name = "face"', 'name = ""', "name: must be a text"),
        ("description", "image = [2, 2]\ndescription", "either inputs or image"),
        ('inputs = ["jaw", "smile"]\n', "", "either inputs or image"),
        ('"jaw", "smile"', '"jaw", "jaw"', "inputs: a name stands there twice"),
        ('"jaw", "smile"', '"jaw", 3', "inputs: each name must be a text"),
        ('"jaw", "smile"', "", "inputs: must be 1 to 1024 names"),
        ("outputs", "output", "output: no manifest has that"),
        ("state = 1", "state = 1.5", "state: must be a whole number 0 to 65536, not 1.5"),
        ("state = 1", "state = -1", "state: must be"),
        ("state = 1", "state = true", "state: must be"),
        ("tick_hz = 30", "tick_hz = 0", "tick_hz: must be 1 to 240, not 0"),
        ("tick_hz = 30", "tick_hz = nan", "tick_hz: must be"),
        ("tick_hz = 30", "tick_hz = ", "Invalid value"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(tmp_path: Path, was: str, instead: str, told: str) -> None:
    """With its file, the key and what would do."""
    path = folder(tmp_path / "a", FACE.replace(was, instead))
    with pytest.raises(ManifestError) as refused:
        read_manifest(path)
    assert told in str(refused.value)
    assert "a/manifest.toml" in str(refused.value)


@pytest.mark.parametrize("size", ["[0, 3]", "[3]", "[600, 3]", "[2.0, 3]", '"3x3"'])
def test_an_image_has_two_sides_of_some_pixels(tmp_path: Path, size: str) -> None:
    """Not too many."""
    with pytest.raises(ManifestError, match="image: must be"):
        read_manifest(folder(tmp_path / "a", EYE.replace("[2, 3]", size)))


def test_a_folder_without_a_program_is_no_model(tmp_path: Path) -> None:
    """The text names the file."""
    path = folder(tmp_path / "a", FACE)
    (path / "model.pt2").unlink()
    with pytest.raises(ManifestError, match=r"model\.pt2 is not there"):
        read_manifest(path)


def test_all_models_of_a_folder_are_read(tmp_path: Path) -> None:
    """What has no manifest is none; two of one name are refused, and a folder that is not there."""
    folder(tmp_path / "b", FACE)
    folder(tmp_path / "a", EYE)
    (tmp_path / "notes").mkdir()
    assert [one.name for one in read_manifests(tmp_path)] == ["eye", "face"]
    folder(tmp_path / "c", FACE)
    with pytest.raises(ManifestError, match="are both called 'face'"):
        read_manifests(tmp_path)
    with pytest.raises(ManifestError, match="is no folder"):
        read_manifests(tmp_path / "nowhere")
