"""What a storage key may be: a/b/c, in nobody's file system. And what the HTTP door calls a picture."""

from __future__ import annotations

import re

_FORBIDDEN = re.compile(r"[\x00-\x1f\\\x7f]")
MAX_KEY_BYTES = 1024  # S3's own limit; GCS and Azure have the same


def key_parts(key: str) -> list[str]:
    """The parts of a key. Raises ValueError for one that could lead anywhere else: absolute, with "..", control characters."""
    parts = key.split("/")
    if (
        not {"", ".", ".."}.isdisjoint(parts)
        or _FORBIDDEN.search(key)
        or len(key.encode(errors="replace")) > MAX_KEY_BYTES
    ):
        raise ValueError(f"not a storage key: {key[:100]!r}")
    return parts


def picture_path(job_id: str, image_index: int) -> str:
    """Where the HTTP door has a picture."""
    return f"/pictures/{job_id}/{image_index}.png"
