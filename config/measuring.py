"""The settings of who may see what is measured, and where it goes."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, SecretStr, field_validator
from pydantic_settings import BaseSettings

from config.calling import base_url
from config.fields import setting

LEAST_TOKEN = 16  # characters, as of every token here
_LISTEN_KINDS = ("tcp:", "tcp6:", "ssl:", "tls:", "unix:", "systemd:")


def _metrics_token(value: SecretStr) -> SecretStr:
    token = value.get_secret_value()
    if token and len(token) < LEAST_TOKEN:
        raise ValueError(f"must have {LEAST_TOKEN} characters or more")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError("must be of printable ASCII characters without blanks: it travels in a header")
    return value


class MeasuringSettings(BaseSettings):
    """Part of `config.Settings`."""

    metrics_listen: str = setting(
        "", "METRICS_LISTEN",
        why="A port of its own for /metrics, /livez and /readyz: tcp:9100:interface=127.0.0.1. A worker has no other.",
    )  # fmt: skip
    metrics_token: Annotated[SecretStr, AfterValidator(_metrics_token)] = setting(
        SecretStr(""), "METRICS_TOKEN",
        why="Whoever has it may read the metrics, from anywhere (docs/metrics.md). None: this machine's own programs alone.",
    )  # fmt: skip

    otlp_endpoint: Annotated[str, AfterValidator(base_url)] = setting(
        "", "OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT",
        why="A collector that takes traces by OTLP over HTTP: http://collector:4318 (docs/metrics.md). Empty: nothing is traced.",
    )  # fmt: skip
    otlp_headers: SecretStr = setting(
        SecretStr(""), "OTLP_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS",
        why="What it is to be sent with them: authorization=Bearer%20TOKEN,name=value.",
    )  # fmt: skip

    @field_validator("metrics_listen")
    @classmethod
    def _an_endpoint(cls, value: str) -> str:
        if value and not value.startswith(_LISTEN_KINDS):
            raise ValueError(f"must begin with one of {', '.join(_LISTEN_KINDS)}")
        return value
