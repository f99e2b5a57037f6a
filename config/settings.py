"""Every setting of the server: its environment name, its default and its reason.

Values come from the environment, then from a `.env` file in the working folder, then from another node that hands out settings
(config.layers), then from the profile, then from the defaults here. A name that
existing systems use (docs/configuration.md lists them) is accepted beside ours; where both are set, ours wins. An unknown
ATELIER_ name, or a value that does not fit, stops the start with a message that names the variable. Secrets are `SecretStr`, so
that no repr, log or error shows them.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
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
from config.shared import SharedSettings
from config.sources import SourceSettings
from config.storing import StoringSettings
from config.tcp import TcpSettings
from config.udp import UdpSettings

BESIDE_AN_IMAGE = 4096  # bytes of a request: a prompt, and everything else that it says
_PROFILE = f"{PREFIX}PROFILE"
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
    SharedSettings,
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


def read_environment() -> dict[str, str | None]:
    """What `.env` and the environment say. Raises SettingsError, also for a name of ours that is no setting."""
    try:
        environment = {**dotenv_values(".env", encoding="utf-8"), **os.environ}
    except UnicodeDecodeError as error:
        raise SettingsError(f".env: it is not UTF-8 text: {error.reason} at byte {error.start}") from None
    _refuse_unknown(environment)
    return environment


class Asking(SharedSettings):
    """Of the settings those that say where the rest is asked for, and where it is kept. All of the environment's own."""

    model_config = Settings.model_config

    data_dir: Path = setting(Settings.model_fields["data_dir"].default, "DATA_DIR", why="As of all settings.")

    def path(self) -> str:
        """Where this node's settings stand, among all that are handed out."""
        if self.settings_instance:
            return f"instances/{self.settings_instance}"
        return f"groups/{self.settings_group}" if self.settings_group else "base"


def read_asking() -> Asking:
    """Read them. Raises SettingsError."""
    environment = read_environment()
    try:
        asking = Asking()
    except ValidationError as error:
        raise _unfit(error, environment) from None
    for name in ("settings_group", "settings_instance"):
        if getattr(asking, name) and not asking.settings_url:
            raise SettingsError(f"{environment_names(name)[0]}: needs {PREFIX}SETTINGS_URL")
    if asking.settings_url and not asking.settings_key.get_secret_value():
        raise SettingsError(f"{PREFIX}SETTINGS_URL: needs {PREFIX}SETTINGS_KEY")
    return asking


def load_settings(shared: Mapping[str, str] | None = None, /, **given: Any) -> Settings:
    """Read the settings; `given` values (by field name) win over the environment, which wins over what is `shared` by another
    node (by the variables' first names). Raises SettingsError."""
    environment = read_environment()
    try:
        values = {environment_names(field)[0]: value for field, value in given.items()}
        told = {name for name, value in environment.items() if value} | set(values)
        profile = given.get("profile") or environment.get(_PROFILE) or ""
        return Settings(**below(told, profile, shared or {}), **values)
    except ValidationError as error:
        raise _unfit(error, environment) from None


def below(told: Collection[str], profile: str, shared: Mapping[str, str]) -> dict[str, Any]:
    """What is `shared`, and below it the profile (the one that is named, or that is shared), say of settings that none of the
    variables that were `told` sets, under whichever name. An empty text says nothing."""
    names = {name: alike for alike in map(environment_names, Settings.model_fields) for name in alike}
    found: dict[str, Any] = {}
    for layer in (shared, read_profile(profile or shared.get(_PROFILE, ""))):
        taken = {*told, *found}
        found |= {name: value for name, value in layer.items() if value and taken.isdisjoint(names.get(name, (name,)))}
    return found


def explain(problem: Any, environment: Mapping[str, Any]) -> tuple[str, str]:
    """One of pydantic's error dictionaries: the variable as the operator wrote it ("" of several together), and what is wrong."""
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"]:  # of several settings together; the message names them
        return "", message
    place = str(problem["loc"][0])
    names = next((n for f in Settings.model_fields if place in (n := environment_names(f))), (place,))
    return next((name for name in names if environment.get(name)), names[0]), message


def _unfit(error: ValidationError, environment: Mapping[str, Any]) -> SettingsError:
    problems = error.errors(include_input=False)  # the input may be a secret
    return SettingsError("\n".join(": ".join(filter(None, explain(problem, environment))) for problem in problems))


def _refuse_unknown(environment: Mapping[str, str | None]) -> None:
    known = {name for field in Settings.model_fields for name in environment_names(field)} | CLIENT_NAMES
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if unknown:
        raise SettingsError(
            "\n".join(f"{name}: no such setting (docs/configuration.md lists them)" for name in unknown)
        )
