"""Every setting of the server: its environment name, its default and its reason.

Values come from the environment, then from a `.env` file in the working folder, then from the defaults here. A name that
existing systems use (docs/configuration.md lists them) is accepted beside ours; where both are set, ours wins. An unknown
ATELIER_ name, or a value that does not fit, stops the start with a message that names the variable. Secrets are `SecretStr`, so
that no repr, log or error shows them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, Self

from dotenv import dotenv_values
from pydantic import AliasChoices, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from config.accounts import AccountSettings
from config.broker import BrokerSettings
from config.calling import CallingSettings
from config.catalogue import CatalogueSettings
from config.custom import CustomSettings
from config.fetching import FetchingSettings
from config.fields import PREFIX as PREFIX
from config.fields import setting
from config.http import HttpSettings
from config.jobs import JobSettings
from config.limiting import LimitingSettings
from config.live import LiveSettings
from config.measuring import MeasuringSettings
from config.painting import DEMO_MODEL as DEMO_MODEL
from config.painting import TEXT_DEMO_MODEL as TEXT_DEMO_MODEL
from config.painting import PaintingSettings
from config.processes import ProcessSettings
from config.profile import known_profile, read_profile
from config.records import RecordSettings
from config.sources import SourceSettings
from config.storing import StoringSettings
from config.tcp import TcpSettings
from config.udp import UdpSettings

BESIDE_AN_IMAGE = 4096  # bytes of a request: a prompt, and everything else that it says
CLIENT_NAMES = frozenset({"ATELIER_SERVER", "ATELIER_TOKEN"})  # the command line's own, for talking to a server


class SettingsError(Exception):
    """A setting that the server cannot start with. The text names the variable."""


class Settings(
    TcpSettings,
    UdpSettings,
    AccountSettings,
    JobSettings,
    LimitingSettings,
    RecordSettings,
    BrokerSettings,
    PaintingSettings,
    CatalogueSettings,
    HttpSettings,
    StoringSettings,
    FetchingSettings,
    CustomSettings,
    CallingSettings,
    MeasuringSettings,
    ProcessSettings,
    LiveSettings,
    SourceSettings,
):
    """All settings, checked. Seconds and bytes unless the name says otherwise."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        case_sensitive=True,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
    )

    profile: str = setting(
        "", "PROFILE",
        why="Ready-made settings for other servers' front ends: sdxl-api, predictions (docs/http.md). All others come before it.",
    )  # fmt: skip

    # Stopping
    finishing_threads: int = setting(
        2, "FINISHING_THREADS", ge=1, le=64, why="Threads that sign, encode and store pictures."
    )
    drain_timeout: float = setting(
        30.0, "DRAIN_TIMEOUT", ge=0,
        why="After a stop signal, running jobs get so long; what is left then is taken up by the next start.",
    )  # fmt: skip

    # Logs
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = setting(
        "INFO", "LOG_LEVEL", "LOG_LEVEL", why="DEBUG adds every connection and every batch change."
    )
    log_format: Literal["console", "json"] = setting("console", "LOG_FORMAT", why="json: one object a line.")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The environment wins over `.env`; tests give values by argument."""
        return init_settings, env_settings, dotenv_settings

    @field_validator("profile")
    @classmethod
    def _a_profile(cls, value: str) -> str:
        return known_profile(value)

    @model_validator(mode="after")
    def _init_images_fit_frames(self) -> Self:
        if self.max_init_image_bytes >= self.max_frame_bytes:
            raise ValueError("ATELIER_MAX_INIT_IMAGE_BYTES must be less than ATELIER_MAX_FRAME_BYTES")
        return self

    @model_validator(mode="after")
    def _init_images_fit_bodies(self) -> Self:
        needed = -(-self.max_init_image_bytes // 3) * 4 + BESIDE_AN_IMAGE
        if self.http_endpoint() and self.http_max_body_bytes < needed:
            raise ValueError(
                f"ATELIER_HTTP_MAX_BODY_BYTES must be at least {needed}: ATELIER_MAX_INIT_IMAGE_BYTES in base64, and "
                f"{BESIDE_AN_IMAGE} bytes of what comes with it"
            )
        return self


def environment_names(field: str) -> tuple[str, ...]:
    """The variables that set `field`, ours first."""
    alias = Settings.model_fields[field].validation_alias
    assert isinstance(alias, AliasChoices)
    return tuple(dict.fromkeys(str(choice) for choice in alias.choices))


def load_settings(**given: Any) -> Settings:
    """Read the settings; `given` values (by field name) win over the environment. Raises SettingsError."""
    try:
        environment = {**dotenv_values(".env", encoding="utf-8"), **os.environ}
    except UnicodeDecodeError as error:
        raise SettingsError(f".env: it is not UTF-8 text: {error.reason} at byte {error.start}") from None
    _refuse_unknown(environment)
    try:
        values = {environment_names(field)[0]: value for field, value in given.items()}
        return Settings(**_of_profile(given, environment), **values)
    except ValidationError as error:
        problems = error.errors(include_input=False)  # the input may be a secret
        raise SettingsError("\n".join(_explain(problem, environment) for problem in problems)) from None


def _of_profile(given: Mapping[str, Any], environment: Mapping[str, str | None]) -> dict[str, Any]:
    """What the profile sets of the settings that nothing else does, under whichever name."""
    profile = read_profile(given.get("profile") or environment.get(environment_names("profile")[0]) or "")
    names = {field: environment_names(field) for field in Settings.model_fields}
    told = {field for field in names if field in given or any(environment.get(name) for name in names[field])}
    others = {name for field in names if field not in told for name in names[field]}
    return {name: value for name, value in profile.items() if name in others}


def _refuse_unknown(environment: Mapping[str, str | None]) -> None:
    known = {name for field in Settings.model_fields for name in environment_names(field)} | CLIENT_NAMES
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(
            "\n".join(f"{name}: no such setting (docs/configuration.md lists them)" for name in unknown)
        )


def _explain(problem: Any, environment: Mapping[str, str | None]) -> str:
    """One of pydantic's error dictionaries as text that names the variable as the operator wrote it."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:  # of several settings together; the message names them
        return message
    place = str(problem["loc"][0])
    names = next((n for f in Settings.model_fields if place in (n := environment_names(f))), (place,))
    written = next((name for name in names if environment.get(name)), names[0])
    return f"{written}: {message}"
