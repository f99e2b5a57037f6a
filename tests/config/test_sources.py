"""Which sources live sessions may have, by a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.sources import BadSources, SourcePlan, read_sources

ALL = """
[[source]]
name = "desk"
kind = "camera"
device = 0
owners = ["ada"]

[[source]]
name = "film"
kind = "camera"
device = "film.avi"
rate = 25
repeat = true

[[source]]
name = "faces"
kind = "folder"
path = "faces"

[[source]]
name = "take-1"
kind = "recording"
path = "/srv/take.jsonl"
"""


def _read(folder: Path, text: str) -> dict[str, SourcePlan]:
    file = folder / "sources.toml"
    file.write_text(text, encoding="utf-8")
    return dict(read_sources(file))


def test_each_kind_of_source(tmp_path: Path) -> None:
    """Relative paths are beside the file, a device is opened by what stands there, and a camera is tried again."""
    (tmp_path / "film.avi").touch()
    assert _read(tmp_path, ALL) == {
        "desk": SourcePlan(name="desk", kind="camera", place="0", owners=frozenset({"ada"}), retry_seconds=10.0),
        "film": SourcePlan(
            name="film", kind="camera", place=f"{tmp_path}/film.avi", rate=25.0, repeat=True, retry_seconds=10.0
        ),
        "faces": SourcePlan(name="faces", kind="folder", place=f"{tmp_path}/faces", rate=10.0, repeat=True),
        "take-1": SourcePlan(name="take-1", kind="recording", place="/srv/take.jsonl"),
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "source: Field required"),
        ("source = ", "Invalid value"),
        ('[[source]]\nname = "a"\nkind = "radio"', "source.1: Input tag 'radio'"),
        ('[[source]]\nname = "A b"\nkind = "folder"\npath = "x"', "source.1.name: String should match pattern"),
        ('[[source]]\nname = "a"\nkind = "folder"', "source.1.path: Field required"),
        (
            '[[source]]\nname = "a"\nkind = "folder"\npath = "x"\nrate = 0',
            "source.1.rate: Input should be greater than 0",
        ),
        ('[[source]]\nname = "a"\nkind = "camera"\ndevice = 0\nfps = 3', "source.1.fps: Extra inputs"),
        ('[[source]]\nname = "a"\nkind = "folder"\npath = "x"\n' * 2, "source.name: a stands twice"),
    ],
)
def test_a_mistake_is_told(tmp_path: Path, text: str, told: str) -> None:
    """With the entry, the key and the file."""
    with pytest.raises(BadSources) as error:
        _read(tmp_path, text)
    assert told in str(error.value)
    assert str(error.value).startswith(f"{tmp_path}/sources.toml: ")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    """By its name."""
    with pytest.raises(BadSources, match=r"none\.toml: No such file"):
        read_sources(tmp_path / "none.toml")
