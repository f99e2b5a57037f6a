"""The settings of accounts: who may make one, what their tokens are signed with, how long things hold."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting

LEAST_SECRET = 32  # characters: whoever guesses it can be anybody


def _long_enough(value: SecretStr) -> SecretStr:
    if value.get_secret_value() and len(value.get_secret_value()) < LEAST_SECRET:
        raise ValueError(f"must have {LEAST_SECRET} characters or more (openssl rand -hex 32): it signs access tokens")
    return value


class AccountSettings(BaseSettings):
    """Part of `config.Settings`."""

    registration: Literal["here", "open", "off"] = setting(
        "here", "REGISTRATION",
        why="Who may make an account at /v1/auth/register: this machine's own programs, everybody, nobody (docs/accounts.md).",
    )  # fmt: skip
    require_account: bool = setting(
        False, "REQUIRE_ACCOUNT",
        why="Serve nobody without a token, key or account, this machine neither; other addresses may then be listened on.",
    )  # fmt: skip
    secret_key: Annotated[SecretStr, AfterValidator(_long_enough)] = setting(
        SecretStr(""), "SECRET_KEY", "SECRET_KEY",
        why="Signs access tokens and pictures' addresses; the same on all nodes. Empty: one of this node's own, in DATA_DIR.",
    )  # fmt: skip
    previous_secret_keys: Annotated[tuple[SecretStr, ...], NoDecode] = setting(
        (), "PREVIOUS_SECRET_KEYS",
        why="Earlier SECRET_KEYs, separated by commas: what they signed is taken until it ends, and nothing new is signed.",
    )  # fmt: skip
    access_token_seconds: int = setting(
        3600, "ACCESS_TOKEN_SECONDS", ge=60, le=86_400,
        why="So long an access token holds: short, since it cannot be taken back one by one. Servers use API keys.",
    )  # fmt: skip
    token_issuer: str = setting(
        "atelier", "TOKEN_ISSUER", pattern=r"^[A-Za-z0-9._:/-]{1,200}$",
        why="The `iss` of access tokens: another name for each deployment that shares a SECRET_KEY.",
    )  # fmt: skip
    identity_cache_seconds: float = setting(
        10.0, "IDENTITY_CACHE_SECONDS", ge=0.1, le=300,
        why="So long a node believes what it was told of a key or account; so late other nodes notice a revocation.",
    )  # fmt: skip
    password_threads: int = setting(
        2, "PASSWORD_THREADS", ge=1, le=32, why="Threads that hash passwords: 0.13 s and 64 MiB each."
    )
    max_waiting_passwords: int = setting(
        32, "MAX_WAITING_PASSWORDS", ge=1, le=10_000,
        why="Logins and registrations that wait for these threads, 2 s at the most; more are refused at once.",
    )  # fmt: skip
    max_keys_per_user: int = setting(
        50, "MAX_KEYS_PER_USER", ge=1, le=10_000, why="API keys in use: one for each program of a user, and no more."
    )
    audit_days: float = setting(
        365.0, "AUDIT_DAYS", gt=0, le=36_500, why="What admins and keys did is forgotten after so long."
    )

    @field_validator("previous_secret_keys", mode="before")
    @classmethod
    def _split_secrets(cls, value: object) -> object:
        return tuple(filter(None, (part.strip() for part in value.split(",")))) if isinstance(value, str) else value

    @field_validator("previous_secret_keys")
    @classmethod
    def _long_secrets(cls, value: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        return tuple(_long_enough(secret) for secret in value)
