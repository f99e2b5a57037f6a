"""The settings of whom the server calls: the backend, users' webhooks, and where URLs of users may lead."""

from __future__ import annotations

from base64 import b64decode
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting

LEAST_TOKEN = 32  # characters, as the backends that give it out have it
LEAST_SECRET, MOST_SECRET = 24, 64  # bytes, as Standard Webhooks recommends


def base_url(value: str) -> str:
    """An address to which paths are added; "" is none."""
    if not value:
        return value
    try:
        parts = urlsplit(value)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        known = False
    if not known or not _in_a_header(value):
        raise ValueError("must be http:// or https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("must not have a user, a query or a fragment")
    return value


def _bearer_token(value: SecretStr) -> SecretStr:
    """A token that is hard to guess; "" is none."""
    token = value.get_secret_value()
    if token and len(token) < LEAST_TOKEN:
        raise ValueError(f"must have {LEAST_TOKEN} characters or more")
    if not _in_a_header(token):
        raise ValueError("must be of printable ASCII characters without blanks: it travels in a header")
    return value


def _signing_secret(value: SecretStr) -> SecretStr:
    """whsec_…; "" is none."""
    secret = value.get_secret_value()
    if not secret:
        return value
    try:
        key = b64decode(secret.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not secret.startswith("whsec_") or not LEAST_SECRET <= len(key) <= MOST_SECRET:
        raise ValueError(f"must be whsec_ and {LEAST_SECRET} to {MOST_SECRET} bytes as base64")
    return value


def _in_a_header(text: str) -> bool:
    return text.isascii() and text.isprintable() and " " not in text


class CallingSettings(BaseSettings):
    """Part of `config.Settings`."""

    backend_api_url: Annotated[str, AfterValidator(base_url)] = setting(
        "", "BACKEND_API_URL", "BACKEND_API_URL",
        why="The backend that publishes jobs and hears of them (docs/webhooks.md); trusted, and alone given INTERNAL_API_TOKEN.",
    )  # fmt: skip
    internal_api_token: Annotated[SecretStr, AfterValidator(_bearer_token)] = setting(
        SecretStr(""), "INTERNAL_API_TOKEN", "INTERNAL_API_TOKEN",
        why="By which that backend knows us; 32 characters or more, since whoever has it can refund and complete at will.",
    )  # fmt: skip
    webhook_secret: Annotated[SecretStr, AfterValidator(_signing_secret)] = setting(
        SecretStr(""), "WEBHOOK_SECRET",
        why="whsec_ and 24 to 64 bytes as base64. Signs what users' own webhooks are told; without it there are none.",
    )  # fmt: skip
    webhook_timeout: float = setting(
        10.0, "WEBHOOK_TIMEOUT", ge=1, le=300,
        why="For one call, from looking the name up to the answer's status. News of progress get 3 s at most.",
    )  # fmt: skip
    webhook_retry_first: float = setting(
        2.0, "WEBHOOK_RETRY_FIRST", ge=0.1, le=3600,
        why="Before a refused call is made again; each further pause is twice as long, less up to a half by chance.",
    )  # fmt: skip
    webhook_retry_longest: float = setting(
        3600.0, "WEBHOOK_RETRY_LONGEST", ge=1, le=86_400,
        why="The longest of these pauses: a receiver that is mended is called within the hour.",
    )  # fmt: skip
    webhook_give_up_after: float = setting(
        86_400.0, "WEBHOOK_GIVE_UP_AFTER", ge=1, le=30 * 86_400,
        why="Then a call that nobody takes is given up, and listed by `atelier webhooks list --failed`. A day: somebody looks.",
    )  # fmt: skip
    webhook_connections: int = setting(
        64, "WEBHOOK_CONNECTIONS", ge=1, le=1000,
        why="Calls under way at once, to all receivers but the backend, which has places of its own.",
    )  # fmt: skip
    webhook_connections_per_host: int = setting(
        8, "WEBHOOK_CONNECTIONS_PER_HOST", ge=1, le=1000,
        why="Calls under way at once to one receiver: a slow one holds up itself alone.",
    )  # fmt: skip
    outgoing_networks: Annotated[tuple[IPv4Network | IPv6Network, ...], NoDecode] = setting(
        (), "OUTGOING_NETWORKS",
        why="Where URLs that users give may lead beside the public Internet: 10.1.2.0/24,fd00::/8. None: nowhere else.",
    )  # fmt: skip

    @field_validator("outgoing_networks", mode="before")
    @classmethod
    def _split_networks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        try:
            return tuple(ip_network(part) for part in map(str.strip, value.split(",")) if part)
        except ValueError as error:
            raise ValueError(f"must be networks such as 10.1.2.0/24: {error}") from None
