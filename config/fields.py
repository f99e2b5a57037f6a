"""How a setting is declared."""

from __future__ import annotations

from typing import Any

from pydantic import AliasChoices, Field

PREFIX = "ATELIER_"


def setting(default: Any, name: str, *others: str, why: str, **limits: Any) -> Any:
    """A field read from ATELIER_`name`, or from one of the `others` as they stand."""
    return Field(default, validation_alias=AliasChoices(PREFIX + name, *others), description=why, **limits)
