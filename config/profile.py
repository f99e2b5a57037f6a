"""Ready-made settings for front ends that were made for other servers: a file of NAME=value lines for each, in `profiles/`."""

from __future__ import annotations

from pathlib import Path

from dotenv import dotenv_values

FOLDER = Path(__file__).with_name("profiles")


def profile_names() -> tuple[str, ...]:
    """Those there are."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.env")))


def known_profile(name: str) -> str:
    """The name, or "". Raises ValueError for one that there is not."""
    if name and name not in profile_names():
        raise ValueError(f"must be one of {', '.join(profile_names())}")
    return name


def read_profile(name: str) -> dict[str, str]:
    """What a profile sets, by the variables' names; nothing for a name that there is not."""
    if name not in profile_names():
        return {}
    return {variable: value or "" for variable, value in dotenv_values(FOLDER / f"{name}.env").items()}
