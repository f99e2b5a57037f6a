"""atelier.choices and atelier.signing: what options say."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from atelier.choices import MarkPosition, MarkSize, adapter, named_inputs, size
from atelier.signing import signature
from proto import atelier_pb2 as pb


@pytest.mark.parametrize("text", ["512x768", "512X768", " 512×768 "])
def test_a_size_is_width_and_height(text: str) -> None:
    """Either letter, or the sign itself, stands between the numbers."""
    assert size(text) == (512, 768)


@pytest.mark.parametrize("text", ["", "512", "512x", "x512", "-1x5", "1.5x2", "999999x1", "512x512x3"])
def test_what_is_no_size_is_refused(text: str) -> None:
    """Anything else names the option."""
    with pytest.raises(typer.BadParameter, match="WIDTHxHEIGHT"):
        size(text)


@pytest.mark.parametrize(
    ("text", "use"),
    [
        ("ink", ("ink", 1.0)),
        ("ink:0.8", ("ink", 0.8)),
        ("ink:-1", ("ink", -1.0)),
        ("team:ink", ("team:ink", 1.0)),
        ("team:ink:0.5", ("team:ink", 0.5)),
    ],
)
def test_an_adapter_is_a_name_and_perhaps_a_scale(text: str, use: tuple[str, float]) -> None:
    """Only a number after the last colon is a scale."""
    assert adapter(text) == use


@pytest.mark.parametrize("text", ["", ":0.5", "ink:nan", "ink:inf"])
def test_what_is_no_adapter_is_refused(text: str) -> None:
    """A missing name, or a scale that is no finite number, names the option."""
    with pytest.raises(typer.BadParameter):
        adapter(text)


def test_inputs_are_json_or_else_texts() -> None:
    """By name; a value may have an equals sign of its own."""
    words = ["seed=3", "temperature=0.5", 'stop=["."]', "prompt=a = b", "loud=true", 'text="3"']
    assert named_inputs(words) == {
        "seed": 3, "temperature": 0.5, "stop": ["."], "prompt": "a = b", "loud": True, "text": "3",
    }  # fmt: skip
    for word in ("seed", "=3", ""):
        with pytest.raises(typer.BadParameter, match="NAME=VALUE"):
            named_inputs([word])


def test_a_signature_of_text() -> None:
    """A text with its place, size and artist; opacity only where it was given."""
    made = signature("Ada", MarkPosition.TOP_LEFT, MarkSize.LARGE, None, "Ada L.")
    assert made == pb.Signature(text="Ada", position=pb.Signature.TOP_LEFT, size=pb.Signature.LARGE, artist="Ada L.")
    assert not made.HasField("opacity")


def test_a_signature_of_a_file(tmp_path: Path) -> None:
    """A name that ends in .png is a file, whose bytes are sent."""
    mark = tmp_path / "mark.PNG"
    mark.write_bytes(b"\x89PNG")
    made = signature(str(mark), MarkPosition.BOTTOM_RIGHT, MarkSize.MEDIUM, 0.0, "")
    assert made is not None
    assert (made.image, made.HasField("opacity"), made.opacity) == (b"\x89PNG", True, 0.0)


def test_a_signature_that_cannot_be(tmp_path: Path) -> None:
    """A missing file, and an artist without a mark, name their options."""
    with pytest.raises(typer.BadParameter, match="No such file"):
        signature(str(tmp_path / "none.png"), MarkPosition.BOTTOM_RIGHT, MarkSize.MEDIUM, None, "")
    with pytest.raises(typer.BadParameter, match="--sign"):
        signature(None, MarkPosition.BOTTOM_RIGHT, MarkSize.MEDIUM, None, "Ada")
    assert signature(None, MarkPosition.BOTTOM_RIGHT, MarkSize.MEDIUM, None, "") is None
