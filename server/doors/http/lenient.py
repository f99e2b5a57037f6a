"""Numbers and truths as the servers read them that spoke the SDXL dialect before: also as a text, as forms have all of them.

What is taken is what the description says: JSON's own kind, or a text of a pattern. A truth is no number, whatever Python thinks.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticKnownError

WHOLE = r"^[+-]?[0-9]{1,20}(\.0{1,9})?$"
NUMBER = r"^[+-]?([0-9]{1,20}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,2})?$"
TRUTH = r"^([Tt]rue|TRUE|[Ff]alse|FALSE|[Yy]es|YES|[Nn]o|NO|[Oo]n|ON|[Oo]ff|OFF|[01])$"


def _screened(kind: type, pattern: str) -> BeforeValidator:
    """Lets through what pydantic then reads in its own, more lenient way. `pattern` is for texts."""
    whole = re.compile(pattern.removesuffix("$"))

    def screen(given: Any) -> Any:
        if isinstance(given, str) and not whole.fullmatch(given):
            raise PydanticKnownError(f"{kind.__name__}_parsing")  # type: ignore[arg-type]
        if isinstance(given, bool) and kind is not bool:
            raise PydanticKnownError(f"{kind.__name__}_type")  # type: ignore[arg-type]
        return given

    return BeforeValidator(screen)


def _described(*kinds: dict[str, Any]) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [*kinds, {"type": "null"}]})


LenientInt = Annotated[
    int | None, _screened(int, WHOLE), _described({"type": "integer"}, {"type": "string", "pattern": WHOLE})
]
LenientFloat = Annotated[
    float | None, _screened(float, NUMBER), _described({"type": "number"}, {"type": "string", "pattern": NUMBER})
]
LenientBool = Annotated[
    bool | None,
    _screened(bool, TRUTH),
    _described({"type": "boolean"}, {"type": "integer", "enum": [0, 1]}, {"type": "string", "pattern": TRUTH}),
]
