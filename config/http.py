"""The settings of the HTTP door."""

from __future__ import annotations

import json
import re
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting

OFF = "off"
_KINDS = ("tcp:", "tcp6:", "ssl:")
_OWNER = re.compile(r"[A-Za-z0-9._-]{1,64}")


class HttpSettings(BaseSettings):
    """Part of `config.Settings`."""

    http_listen: str = setting(
        "", "HTTP_LISTEN",
        why="Where HTTP clients connect: an endpoint string (tcp:, tcp6:, ssl:), or off. Empty: HTTP_HOST and HTTP_PORT.",
    )  # fmt: skip
    http_host: str = setting(
        "127.0.0.1", "HTTP_HOST", "API_HOST", pattern=r"^[0-9A-Za-z.:_-]+$",
        why="An address of this machine, where there is no HTTP_LISTEN. Loopback until tokens are set.",
    )  # fmt: skip
    http_port: int = setting(8001, "HTTP_PORT", "API_PORT", ge=0, le=65_535, why="Its port. 0: a free one.")
    http_base_url: str = setting(
        "", "HTTP_BASE_URL", pattern=r"^(https?://[^/@?#]+(/[^?#]*)?)?$",
        why="What others call this door, https://paint.example, for addresses of pictures. Empty: what each request calls it.",
    )  # fmt: skip
    http_anonymous_owner: str = setting(
        "", "HTTP_ANONYMOUS_OWNER",
        why="Who owns what comes without a token. Empty: with tokens set such requests are refused, else loopback's are `local`.",
    )  # fmt: skip
    cors_origins: Annotated[tuple[str, ...], NoDecode] = setting(
        (), "CORS_ORIGINS", "CORS_ORIGINS",
        why="Web pages that may call from browsers: https://a.example,http://localhost:3000, or *. None: only our own.",
    )  # fmt: skip
    http_max_body_bytes: int = setting(
        2 << 20, "HTTP_MAX_BODY_BYTES", ge=1024, le=1 << 27,
        why="Largest request body: an init image (MAX_INIT_IMAGE_BYTES) and a signature, in base64, fit. Beyond, it is refused.",
    )  # fmt: skip
    http_max_bodies_bytes: int = setting(
        256 << 20, "HTTP_MAX_BODIES_BYTES", ge=1024,
        why="The bodies of all requests under way: 128 of 2 MiB. Beyond, 429: their connections alone could hold 10 GB.",
    )  # fmt: skip
    http_max_batch: int = setting(
        100, "HTTP_MAX_BATCH", ge=1, le=1000,
        why="Jobs of one POST /v1/jobs/batch. Looking at a batch asks the records once for each hundred.",
    )  # fmt: skip
    http_max_header_bytes: int = setting(
        16 * 1024, "HTTP_MAX_HEADER_BYTES", ge=1024, le=1 << 20,
        why="Largest request line and headers: browsers with many cookies send 8 kB. A stranger makes us hold no more.",
    )  # fmt: skip
    http_header_timeout: float = setting(
        10.0, "HTTP_HEADER_TIMEOUT", gt=0,
        why="From connecting, or a request's first byte, to the end of its headers, however many bytes come.",
    )  # fmt: skip
    http_body_timeout: float = setting(
        30.0, "HTTP_BODY_TIMEOUT", gt=0,
        why="From the headers to the body's last byte: 2 MB in 30 s are half a megabit a second.",
    )  # fmt: skip
    http_idle_timeout: float = setting(
        75.0, "HTTP_IDLE_TIMEOUT", gt=0,
        why="A connection kept alive without a request. Longer than the 60 s after which proxies let go of theirs.",
    )  # fmt: skip
    http_max_connections: int = setting(
        5000, "HTTP_MAX_CONNECTIONS", ge=1,
        why="In all, listeners included. One costs about 15 kB, and an open file: raise `ulimit -n` too.",
    )  # fmt: skip
    http_keep_alive: float = setting(
        15.0, "HTTP_KEEP_ALIVE", ge=1, le=600,
        why="A listener of events hears so often that we live, where nothing else is said: proxies close silent ones after 60 s.",
    )  # fmt: skip

    generation_timeout: float = setting(
        300.0, "GENERATION_TIMEOUT", "GENERATION_TIMEOUT", gt=0, le=86_400,
        why="Of requests that wait for their picture: then the job has failed, its row is free, and 504 is answered.",
    )  # fmt: skip
    http_cancel_on_disconnect: bool = setting(
        False, "HTTP_CANCEL_ON_DISCONNECT",
        why="Cancel the job of one at /api/v1 when its client goes away. Off: it is painted, and kept under /outputs.",
    )  # fmt: skip

    @field_validator("http_listen")
    @classmethod
    def _known_http_endpoint(cls, value: str) -> str:
        if value and value != OFF and not value.startswith(_KINDS):
            raise ValueError(f"must be {OFF}, or begin with one of {', '.join(_KINDS)}")
        return value

    @field_validator("http_anonymous_owner")
    @classmethod
    def _an_anonymous_owner(cls, value: str) -> str:
        if value and not _OWNER.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits, dots, _ and -")
        return value

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split_origins(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        listed = json.loads(value) if value.lstrip().startswith("[") else value.split(",")  # some write it as JSON
        return tuple(filter(None, (str(part).strip().rstrip("/") for part in listed)))

    @field_validator("cors_origins")
    @classmethod
    def _origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            found = urlsplit(origin)
            bare = f"{found.scheme}://{found.netloc}" == origin and found.netloc and "@" not in found.netloc
            if origin != "*" and not (bare and found.scheme in ("http", "https")):
                raise ValueError(f"{origin[:100]!r} is no origin, as https://a.example is")
        return value

    @model_validator(mode="after")
    def _a_body_fits(self) -> Self:
        if self.http_max_bodies_bytes < self.http_max_body_bytes:
            raise ValueError("ATELIER_HTTP_MAX_BODIES_BYTES must be at least ATELIER_HTTP_MAX_BODY_BYTES")
        return self

    def http_endpoint(self) -> str:
        """Where the HTTP door listens, as an endpoint string; "" where it is off."""
        if self.http_listen:
            return "" if self.http_listen == OFF else self.http_listen
        kind = "tcp6" if ":" in self.http_host else "tcp"
        return f"{kind}:{self.http_port}:interface={self.http_host.replace(':', chr(92) + ':')}"
