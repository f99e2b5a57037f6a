"""API keys: atl_ and 256 random bits as 43 characters. Only a digest is kept: of so many bits it needs neither salt nor time."""

from __future__ import annotations

import hashlib
import re
import secrets

PREFIX = "atl_"
HINT = len(PREFIX) + 4  # characters that are shown in lists, by which people tell their keys apart
_FORM = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")


def new_key() -> str:
    """One that nobody has."""
    return PREFIX + secrets.token_urlsafe(32)


def looks_like_one(text: str) -> bool:
    """Whether it is meant as one."""
    return text.startswith(PREFIX)


def is_whole(text: str) -> bool:
    """Whether it could be one: what was cut short is refused without asking anybody."""
    return _FORM.fullmatch(text) is not None


def digest_of(key: str) -> str:
    """What is kept."""
    return hashlib.sha256(key.encode()).hexdigest()
