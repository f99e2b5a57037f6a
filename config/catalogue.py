"""The settings of models and adapters that users register: from where, and how many."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, field_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting

_PREFIX = re.compile(r"([A-Za-z0-9._-]+/)+")


class CatalogueSettings(BaseSettings):
    """Part of `config.Settings`."""

    model_cache_dir: Path | None = setting(
        None, "MODEL_CACHE_DIR", "MODEL_CACHE_DIR",
        why="Where registered models are fetched to, and one of the folders they may lie in. None: DATA_DIR/models.",
    )  # fmt: skip
    model_roots: Annotated[tuple[Path, ...], NoDecode] = setting(
        (), "MODEL_ROOTS",
        why="Folders in which models that users register may lie: /srv/models,/mnt/models. Others of this machine are nobody's.",
    )  # fmt: skip
    model_keys: Annotated[tuple[str, ...], NoDecode] = setting(
        ("models/",), "MODEL_KEYS",
        why="What a key in the storage must begin with to be registered as a model.",
    )  # fmt: skip
    model_hub: bool = setting(
        False, "MODEL_HUB",
        why="Let users register models of the hub (HF_ENDPOINT, HF_TOKEN as its library has them). Each is a few gigabytes.",
    )  # fmt: skip
    max_model_bytes: ByteSize = setting(
        "20GB", "MAX_MODEL_BYTES", validate_default=True, ge=1_000_000,
        why="Of one registered model that is fetched, all files together. Stable Diffusion XL has 7 GB in float16.",
    )  # fmt: skip
    models_per_owner: int = setting(
        100, "MODELS_PER_OWNER", ge=0, why="Models that one owner may have registered. 0: nobody registers any."
    )
    adapters_per_owner: int = setting(
        1000, "ADAPTERS_PER_OWNER", ge=0, why="Adapters that one owner may have uploaded. 0: nobody uploads any."
    )
    upload_timeout: float = setting(
        600.0, "UPLOAD_TIMEOUT", gt=0, le=86_400,
        why="From an upload's headers to its last byte: 200 MB at 0.35 MB/s.",
    )  # fmt: skip
    catalogue_refresh: float = setting(
        2.0, "CATALOGUE_REFRESH", ge=0.1, le=3600,
        why="Seconds between looks for what was registered on other nodes: one small read each.",
    )  # fmt: skip

    @field_validator("model_roots", mode="before")
    @classmethod
    def _split_roots(cls, value: object) -> object:
        return (
            tuple(Path(part.strip()) for part in value.split(",") if part.strip()) if isinstance(value, str) else value
        )

    @field_validator("model_roots")
    @classmethod
    def _whole_roots(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for root in value:
            if not root.is_absolute():
                raise ValueError(f"{str(root)[:100]!r} must be a whole path: /srv/models")
        return value

    @field_validator("model_keys", mode="before")
    @classmethod
    def _split_keys(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("model_keys")
    @classmethod
    def _key_folders(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for prefix in value:
            if not _PREFIX.fullmatch(prefix):
                raise ValueError(f"{prefix[:60]!r} must be folders of the storage: models/")
        return value
