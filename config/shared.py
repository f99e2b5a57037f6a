"""The settings of settings that many nodes share: where a node asks for its own, and the folder that one hands out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, SecretStr
from pydantic_settings import BaseSettings

from config.calling import base_url
from config.fields import setting

NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


def _in_a_header(value: SecretStr) -> SecretStr:
    key = value.get_secret_value()
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ValueError("must be of printable ASCII characters without blanks: it travels in a header")
    return value


class SharedSettings(BaseSettings):
    """Part of `config.Settings`, and read before the rest: the rest may come from where these say."""

    settings_dir: Path | None = setting(
        None, "SETTINGS_DIR",
        why="A folder of settings for many nodes, which this one hands out at /fetch (docs/operations.md). None: no such folder.",
    )  # fmt: skip
    settings_url: Annotated[str, AfterValidator(base_url)] = setting(
        "", "SETTINGS_URL",
        why="A node that hands out settings, https://settings.example: what the environment does not say comes from there.",
    )  # fmt: skip
    settings_key: Annotated[SecretStr, AfterValidator(_in_a_header)] = setting(
        SecretStr(""), "SETTINGS_KEY",
        why="An API key of an admin of that node, with the scope `settings` alone.",
    )  # fmt: skip
    settings_group: str = setting(
        "",
        "SETTINGS_GROUP",
        pattern=rf"^({NAME})?$",
        why="The group there whose settings are this node's: groups/NAME.toml.",
    )
    settings_instance: str = setting(
        "", "SETTINGS_INSTANCE", pattern=rf"^({NAME})?$",
        why="What this node itself is called there: instances/NAME.toml, which names its group.",
    )  # fmt: skip
    settings_timeout: float = setting(
        5.0, "SETTINGS_TIMEOUT", gt=0, le=600,
        why="For the whole answer; then this node starts with the settings that it last started with.",
    )  # fmt: skip
