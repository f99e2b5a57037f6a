"""The settings of custom models: classes in processes of their own (docs/custom-models.md)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import ByteSize, field_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting

_MODEL_NAME = re.compile(r"[A-Za-z0-9._/-]{1,100}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class CustomSettings(BaseSettings):
    """Part of `config.Settings`."""

    custom_models: Annotated[dict[str, str], NoDecode] = setting(
        {}, "CUSTOM_MODELS",
        why="name=package.module:Class, and @ARGUMENT where the class takes one (docs/custom-models.md). Separated by commas.",
    )  # fmt: skip
    custom_memory_limit: ByteSize = setting(
        "2GiB", "CUSTOM_MEMORY_LIMIT", validate_default=True,
        why="Of each custom model's processes together; beyond it they are ended. A class may say its own.",
    )  # fmt: skip
    custom_predict_timeout: float = setting(
        300.0, "CUSTOM_PREDICT_TIMEOUT", gt=0,
        why="A predict that takes longer is killed, which a thread could not be. A class may say its own.",
    )  # fmt: skip
    custom_load_timeout: float = setting(
        300.0, "CUSTOM_LOAD_TIMEOUT", gt=0, why="For load: weights of gigabytes are read from a slow disk in that."
    )
    custom_describe_timeout: float = setting(
        30.0, "CUSTOM_DESCRIBE_TIMEOUT", gt=0,
        why="At the start each class is asked what it takes; importing its module must not hold the start up for longer.",
    )  # fmt: skip
    custom_max_output_bytes: ByteSize = setting(
        "64MiB", "CUSTOM_MAX_OUTPUT_BYTES", validate_default=True, ge=1024, le=1 << 30,
        why="Of a prediction's pictures as pixels (3 bytes each), or of its JSON: all of it passes through the server's memory.",
    )  # fmt: skip
    custom_environment: Annotated[tuple[str, ...], NoDecode] = setting(
        (), "CUSTOM_ENVIRONMENT",
        why="Variables that custom models' processes are given beside PATH, HOME and the like: HF_HOME,CUDA_VISIBLE_DEVICES.",
    )  # fmt: skip

    @field_validator("custom_models", mode="before")
    @classmethod
    def _split_custom_models(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        models: dict[str, str] = {}
        for pair in filter(None, (part.strip() for part in value.split(","))):
            name, is_there, path = pair.partition("=")
            if not is_there or not _MODEL_NAME.fullmatch(name) or not path:
                raise ValueError(f"{pair!r} is not name=package.module:Class")
            if name in models:
                raise ValueError(f"the name {name!r} stands there twice")
            models[name] = path
        return models

    @field_validator("custom_environment", mode="before")
    @classmethod
    def _split_environment(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        names = tuple(filter(None, (part.strip() for part in value.split(","))))
        for name in names:
            if not _VARIABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a variable")
        return names
