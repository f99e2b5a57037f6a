"""The header Prefer (RFC 7240): what is wished for, by name. What it means is each dialect's business."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping


def preferences(headers: Iterable[str]) -> Mapping[str, str | None]:
    """Each preference, in small letters, with its value as it was written, None where it has none. Of two of one name the first
    counts, as the RFC has it; parameters of a preference stand beside it as if they were preferences."""
    found: dict[str, str | None] = {}
    for told in re.split(r"[,;]", ",".join(headers)):
        name, equals, value = (piece.strip() for piece in told.partition("="))
        if name:
            found.setdefault(name.lower(), value.strip('"') if equals else None)
    return found
