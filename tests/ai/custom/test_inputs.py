"""From predict's annotations to a schema, and from JSON to its arguments."""

from __future__ import annotations

import enum
from io import BytesIO
from typing import Annotated, Any, Literal

import pytest
from PIL import Image
from pydantic import BaseModel, Field

from ai.custom.authoring import Picture
from ai.custom.inputs import BadInput, BadSignature, Inputs
from tests.ai.custom import odd


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Box(BaseModel):
    left: int
    right: int


class Rich:
    def predict(
        self,
        image: Annotated[Picture, Field(description="What to look at.")],
        scale: Annotated[float, Field(gt=0, le=4, description="How large.")] = 2,
        mode: Literal["a", "b"] = "a",
        mood: Mood = Mood.GOOD,
        steps: int | None = None,
        labels: Annotated[list[str], Field(max_length=3)] = ["cat"],  # noqa: B006  # as people write it
        box: Box | None = None,
        copy: bool = False,
        _hidden: str = "",
    ) -> None: ...


def a_file() -> bytes:
    """A small PNG."""
    file = BytesIO()
    Image.new("RGB", (3, 2), (9, 8, 7)).save(file, "PNG")
    return file.getvalue()


RICH = Inputs(Rich.predict)


def test_the_schema_says_what_the_annotations_say() -> None:
    """Type, description, default, limits and choices of each; what has no default must be given."""
    assert RICH.schema == {
        "image": {
            "type": "string",
            "format": "uri",
            "contentMediaType": "image/*",
            "description": "What to look at.",
            "required": True,
        },
        "scale": {"type": "number", "exclusiveMinimum": 0, "maximum": 4, "default": 2, "description": "How large."},
        "mode": {"type": "string", "enum": ["a", "b"], "default": "a"},
        "mood": {"type": "string", "enum": ["good", "bad"], "default": "good"},
        "steps": {"type": "integer", "default": None},
        "labels": {"type": "array", "items": {"type": "string"}, "maxItems": 3, "default": ["cat"]},
        "box": {
            "type": "object",
            "properties": {"left": {"title": "Left", "type": "integer"}, "right": {"title": "Right", "type": "integer"}},
            "required": ["left", "right"],
            "default": None,
        },
        "copy": {"type": "boolean", "default": False},
        "_hidden": {"type": "string", "default": ""},
    }  # fmt: skip


def test_arguments_are_what_the_annotations_say() -> None:
    """With the defaults, and a picture's bytes that came beside the JSON."""
    read = RICH.read({"scale": 3, "mood": "bad", "box": {"left": 1, "right": 2}}, {"image": a_file()})
    picture = read.pop("image")
    assert (picture.size, picture.mode, picture.getpixel((0, 0))) == ((3, 2), "RGB", (9, 8, 7))
    assert read == {
        "scale": 3.0, "mode": "a", "mood": Mood.BAD, "steps": None, "labels": ["cat"],
        "box": Box(left=1, right=2), "copy": False, "_hidden": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "field", "said"),
    [
        ({"image": None}, "image", "must be a picture as a data URL"),
        ({"image": "https://example.org/a.png"}, "image", "must be a picture as a data URL"),
        ({"image": "file:image"}, "image", "must be a picture as a data URL"),
        ({"image": "data:image/png;base64,????"}, "image", "sound base64"),
        ({"image": "data:image/png;base64,aGVsbG8="}, "image", "must be a sound picture"),
        ({"scale": 0}, "scale", "greater than 0"),
        ({"scale": "2"}, "scale", "valid number"),
        ({"mode": "c"}, "mode", "'a' or 'b'"),
        ({"labels": ["a", 5]}, "labels.1", "valid string"),
        ({"box": {"left": 1}}, "box.right", "required"),
        ({"copy": 1}, "copy", "valid boolean"),
        ({"surprise": 1}, "surprise", "not permitted"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(given: dict[str, Any], field: str, said: str) -> None:
    """One problem, the first, with what would be taken."""
    files = {} if "image" in given else {"image": a_file()}
    with pytest.raises(BadInput) as caught:
        RICH.read(given, files)
    assert caught.value.field == field
    assert said in caught.value.reason


def test_what_is_missing_is_refused_by_its_name() -> None:
    """A picture too."""
    with pytest.raises(BadInput, match="image: Field required"):
        RICH.read({}, {})


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (odd.Unannotated, "text: has no annotation"),
        (odd.Unknowable, "subprocess.Popen"),
        (odd.Starred, "anything: * and / are not for predict"),
    ],
)
def test_a_predict_of_which_nothing_can_be_told(kind: Any, said: str) -> None:
    """It is refused with the argument's name."""
    with pytest.raises(BadSignature) as caught:
        Inputs(kind.predict)
    assert said in str(caught.value)
