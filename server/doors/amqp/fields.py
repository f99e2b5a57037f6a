"""Reading a JSON object field by field: each of the type it must have, or a Refusal that names it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from server.errors import Refusal

_ABSENT = object()
MAX_TEXTS = 1000  # entries of a list of texts; a prompt of 4000 characters has no more tags


class Fields:
    """An object, and where it stands in the message ("data." in front of its fields' names)."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self._values = values
        self._prefix = prefix

    def path(self, name: str) -> str:
        """The field's name from the top of the message on."""
        return self._prefix + name

    def has(self, *names: str) -> bool:
        """Whether any of these stands there, and is not null."""
        return any(self._values.get(name) is not None for name in names)

    def is_whole(self, name: str) -> bool:
        """Whether it is written as a whole number: 1 and not 1.0."""
        return isinstance(self._values.get(name), int)

    def refused(self, name: str, limit: str) -> Refusal:
        """What the field must be."""
        return Refusal.invalid(self.path(name), limit, self._values.get(name))

    def only(self, known: Collection[str]) -> None:
        """Refuse what is not known: a slip of the pen would otherwise be left out in silence."""
        for name in self._values:
            if name not in known:
                limit = f"one of {', '.join(sorted(known))}"
                raise Refusal.invalid(self.path(name[:60]), f"left out: a field here is {limit}", self._values[name])

    def text(self, name: str, default: Any = _ABSENT) -> str:
        """A text. A field that has a default may be left out, or null."""
        value = self._given(name, default)
        if value is default:
            return value if isinstance(value, str) else ""
        if not isinstance(value, str):
            raise self.refused(name, "a text")
        return value

    def whole(self, name: str, default: Any = _ABSENT) -> Any:
        """A whole number; a default is given back as it is."""
        value = self._given(name, default)
        if value is not default and (not isinstance(value, int) or isinstance(value, bool)):
            raise self.refused(name, "a whole number")
        return value

    def truth(self, name: str) -> bool | None:
        """True or false; None where it is left out."""
        value = self._given(name, None)
        if value is not None and not isinstance(value, bool):
            raise self.refused(name, "true or false")
        return value

    def number(self, name: str, default: Any = _ABSENT) -> Any:
        """A number as a float; a default is given back as it is."""
        value = self._given(name, default)
        if value is default:
            return value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refused(name, "a number")
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            raise self.refused(name, "a finite number")
        return number

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts; none where it is left out."""
        value = self._given(name, ())
        if (
            not isinstance(value, list | tuple)
            or len(value) > MAX_TEXTS
            or not all(isinstance(one, str) for one in value)
        ):
            raise self.refused(name, f"a list of texts, at most {MAX_TEXTS}")
        return tuple(value)

    def fields(self, name: str, default: Any = _ABSENT) -> Fields:
        """An object."""
        value = self._given(name, default)
        if not isinstance(value, dict):
            raise self.refused(name, "an object")
        return Fields(value, f"{self.path(name)}.")

    def plain(self, name: str) -> dict[str, Any]:
        """An object as it is, for somebody else to read; empty where it is left out."""
        value = self._given(name, {})
        if not isinstance(value, dict):
            raise self.refused(name, "an object")
        return value

    def objects(self, name: str, most: int) -> list[Fields]:
        """A list of objects; none where it is left out."""
        value = self._given(name, [])
        if not isinstance(value, list) or len(value) > most or not all(isinstance(one, dict) for one in value):
            raise self.refused(name, f"a list of objects, at most {most}")
        return [Fields(one, f"{self.path(name)}[{index}].") for index, one in enumerate(value)]

    def _given(self, name: str, default: Any) -> Any:
        value = self._values.get(name)
        if value is not None:
            return value
        if default is _ABSENT:
            raise Refusal.invalid(self.path(name), "given", None)
        return default
