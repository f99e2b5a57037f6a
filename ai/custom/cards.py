"""What is known of a custom model before its process runs, and what it is asked. Plain data: no class is imported here."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ai.errors import InputError
from ai.requests import CustomRequest, Json

MODEL_TYPES = ("custom", "text-generation", "image-to-text", "classification", "embeddings", "image-to-image")
"""What a class may call itself; `text-to-image` models are painters, with cards of their own."""

COUNTED = ("integer", "number", "string", "array")
"""JSON's types of the inputs of which `units` says how much there is."""

MOST_COST = 1e12
"""Of one input of a call: all calls' costs are added up, for days and months, and a sum has to remain a number."""

_PATH = re.compile(r"(?P<module>[A-Za-z_]\w*(\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)(@(?P<argument>.+))?")


@dataclass(frozen=True, slots=True)
class ClassPath:
    """Where a class is: `package.module:Class`, and what it is made with, after an @ (a folder of weights, say)."""

    module: str
    name: str
    argument: str | None = None

    @classmethod
    def read(cls, text: str) -> ClassPath:
        """From the form of a setting. Raises ValueError."""
        match = _PATH.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r} is no package.module:Class, with @ARGUMENT after it where the class takes one")
        return cls(match["module"], match["name"], match["argument"])

    def __str__(self) -> str:
        return f"{self.module}:{self.name}" + (f"@{self.argument}" if self.argument is not None else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomCard:
    """A custom model. `input_schema` has a JSON schema for each argument of its `predict`.

    The limits are the class's own, in bytes and seconds; None where it leaves them to the settings. A `problem` says why the
    class cannot be used at all.
    """

    name: str
    path: ClassPath
    model_type: str = "custom"
    description: str = ""
    input_schema: Mapping[str, Mapping[str, Json]] = field(default_factory=dict, hash=False)
    memory: int | None = None  # that it is expected to take, before it was seen
    memory_limit: int | None = None  # beyond which it is ended
    predict_seconds: float | None = None
    cost: float | None = None  # of a call, as limits count it; None: as the settings say
    cost_by: Mapping[str, float] = field(
        default_factory=dict, hash=False
    )  # beside it, by inputs: of each unit (`units`)
    repeatable: bool = False  # the same input always gives the same
    code: tuple[str, ...] = ()  # of a repeatable one: the files that it may run (code_files); none: they cannot be told
    problem: str = ""

    @property
    def source(self) -> str:
        """Where its class is."""
        return str(self.path)

    @property
    def adapters(self) -> Mapping[str, Path]:
        """It has none."""
        return {}

    @property
    def output_schema(self) -> dict[str, Json]:
        """What comes of it: pictures' addresses, or whatever the class returns."""
        return {}

    def cost_of(self, given: Mapping[str, Json], usual: float) -> float:
        """Of a call with these inputs; `usual` is a call's where the class says nothing. Raises InputError."""
        call = usual if self.cost is None else self.cost
        return call + sum(_cost_by(name, given.get(name), each) for name, each in self.cost_by.items())

    def request(self, request_id: str, given: Mapping[str, Json], *, seed: int, priority: int) -> CustomRequest:
        """The request for an input that was checked by `input_schema`, its defaults filled in. Pictures become bytes."""
        files = {name: data for name, value in given.items() if (data := self._file(name, value)) is not None}
        notes = {name: f"{given[name].partition(';')[0]}, {len(data)} bytes" for name, data in files.items()}
        return CustomRequest(
            request_id=request_id, model=self.name, input={**given, **notes}, files=files, seed=seed, priority=priority
        )

    def _file(self, name: str, value: Json) -> bytes | None:
        """The bytes of a data URL, where the class takes such a thing; what cannot be read is left to the class to refuse."""
        if "contentMediaType" not in self.input_schema[name] or not isinstance(value, str):
            return None
        head, comma, text = value.partition(",")
        if not (comma and head.startswith("data:") and head.endswith(";base64")):
            return None
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            return None


def _cost_by(name: str, value: Json, each: float) -> float:
    """What an input costs. Raises InputError: an integer may have hundreds of digits, and be no float at all."""
    many = units(value)
    if not many <= MOST_COST / each:
        raise InputError(f"input.{name}", f"at most {MOST_COST / each:g}, by what it costs", "is too much")
    return each * many


def units(value: Json) -> float:
    """How much an input is, where a call's cost is by it: a number itself, of a text its thousands of characters, of a list its
    items; nothing where it was left out."""
    if isinstance(value, str):
        return len(value) / 1000
    if isinstance(value, list):
        return len(value)
    return max(0.0, value) if isinstance(value, (int, float)) else 0.0
