"""The settings of adapters that are fetched: from where, how much of the disk they take."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, field_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting

_HOST = re.compile(r"\.?[a-z0-9]([a-z0-9.-]*[a-z0-9])?")
_PREFIX = re.compile(r"([A-Za-z0-9._-]+/)+")


class FetchingSettings(BaseSettings):
    """Part of `config.Settings`."""

    adapter_hosts: Annotated[tuple[str, ...], NoDecode] = setting(
        (), "ADAPTER_HOSTS",
        why="Hosts of https addresses that requests may name as adapters: files.example.com,.hf.co (a dot: all below it).",
    )  # fmt: skip
    adapter_keys: Annotated[tuple[str, ...], NoDecode] = setting(
        ("models/",), "ADAPTER_KEYS",
        why="What a key in the storage must begin with to be named as an adapter: pictures are nobody's style.",
    )  # fmt: skip
    adapter_cache_dir: Path | None = setting(
        None, "ADAPTER_CACHE_DIR",
        why="Where fetched adapters are kept, this server's alone. None: DATA_DIR/adapters.",
    )  # fmt: skip
    adapter_cache_bytes: ByteSize = setting(
        "10GB", "ADAPTER_CACHE_BYTES", validate_default=True, ge=1_000_000,
        why="Of the disk. The least recently used go; those of jobs under way stay. Adapters have 2 to 150 MB.",
    )  # fmt: skip
    adapter_check_seconds: float = setting(
        30.0, "ADAPTER_CHECK_SECONDS", ge=0,
        why="Whether a fetched adapter has changed where it came from is asked so often at most; 0: for each job.",
    )  # fmt: skip
    adapter_timeout: float = setting(
        300.0, "ADAPTER_TIMEOUT", gt=0,
        why="For one request that fetches an adapter: 200 MB at 0.7 MB/s. A fault in the middle is gone on from.",
    )  # fmt: skip
    adapters_ahead: int = setting(
        64, "ADAPTERS_AHEAD", ge=1,
        why="Jobs that hold fetched adapters at a time; the others' are fetched when it is their turn. Mind ADAPTER_CACHE_BYTES.",
    )  # fmt: skip

    @field_validator("adapter_hosts", "adapter_keys", mode="before")
    @classmethod
    def _split_fetching(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("adapter_hosts")
    @classmethod
    def _hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for host in value:
            if not _HOST.fullmatch(host):
                raise ValueError(
                    f"{host[:60]!r} must be a host's name in small letters, or .example.com for all below one"
                )
        return value

    @field_validator("adapter_keys")
    @classmethod
    def _prefixes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in value:
            if not _PREFIX.fullmatch(prefix):
                raise ValueError(f"{prefix[:60]!r} must be folders of the storage: models/")
        return value
