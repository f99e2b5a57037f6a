"""A stream model's program, held against what its manifest says of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from ai.live.manifests import Manifest, read_manifest
from ai.live.program import ProgramError, load_program
from tests.ai.live.programs import EYE, FACE, Colours, Doubles, Mixes, Sums, face


def test_programs_of_numbers_and_of_images_are_loaded(tmp_path: Path) -> None:
    """With a state and without."""
    assert load_program(face(tmp_path / "face"))[0].manifest.name == "face"
    assert load_program(face(tmp_path / "eye", Colours(), EYE))[1] > 0


@pytest.mark.parametrize(
    ("network", "was", "instead", "told"),
    [
        (Sums(), '"frames", ', "", "it gives values of [5, 3], and must give [5, 2]"),
        (Sums(), "state = 1", "state = 2", "it does not run on [5, 2], [5, 2], [5]"),
        (Sums(), '"smile"', '"smile", "brow"', "it does not run on [5, 3]"),
        (Doubles(), "", "", "its values are torch.float64, and must be a tensor of float32"),
        (Mixes(), "", "", "the rows are sessions of different people"),
    ],
    ids=["outputs", "state", "inputs", "type", "rows"],
)
def test_a_manifest_that_lies_is_found_out(
    tmp_path: Path, network: nn.Module, was: str, instead: str, told: str
) -> None:
    """By running the program; the text says what was found, and what was said."""
    manifest = face(tmp_path / "face", network)
    with pytest.raises(ProgramError) as refused:
        load_program(_rewritten(manifest.folder, was, instead))
    assert told in str(refused.value)
    assert str(manifest.program) in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 half a zip"])
def test_a_file_that_is_no_program_is_refused(tmp_path: Path, content: bytes) -> None:
    """With its name."""
    manifest = face(tmp_path / "face")
    manifest.program.write_bytes(content)
    with pytest.raises(ProgramError, match=r"model\.pt2 cannot be loaded as a torch\.export program"):
        load_program(manifest)


def _rewritten(folder: Path, was: str, instead: str) -> Manifest:
    (folder / "manifest.toml").write_text(FACE.replace(was, instead), encoding="utf-8")
    return read_manifest(folder)
