"""The settings of the TCP door, and of the tokens that every door takes."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode

from config.fields import setting

CHUNK_ENVELOPE = 256  # bytes of a Chunk that are not picture: ids, numbers, tags
_OWNER = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LISTEN_KINDS = ("tcp:", "tcp6:", "ssl:", "tls:", "unix:", "systemd:")


class TcpSettings(BaseSettings):
    """Part of `config.Settings`."""

    tcp_listen: str = setting(
        "tcp:9000:interface=127.0.0.1", "TCP_LISTEN",
        why="Where TCP clients connect: a Twisted endpoint string (tcp:, ssl:, unix:). Loopback until tokens are set.",
    )  # fmt: skip
    tokens: Annotated[dict[str, SecretStr], NoDecode] = setting(
        {}, "TOKENS",
        why="Who may connect: owner:token,owner:token. A token has 16 characters or more. None: loopback addresses only.",
    )  # fmt: skip
    allow_plaintext: bool = setting(
        False, "ALLOW_PLAINTEXT",
        why="Serve other machines without TLS. Tokens and pictures can then be read on the way.",
    )  # fmt: skip
    handshake_frame_bytes: int = setting(
        4096, "HANDSHAKE_FRAME_BYTES", ge=256, le=1 << 20,
        why="Largest frame before Hello: a token and a name need a few hundred bytes, a stranger gets no more.",
    )  # fmt: skip
    max_frame_bytes: int = setting(
        1 << 20, "MAX_FRAME_BYTES", ge=1 << 16, le=1 << 26,
        why="Largest frame after Hello: a Submit with a signature image fits well.",
    )  # fmt: skip
    chunk_bytes: int = setting(
        256 * 1024, "CHUNK_BYTES", ge=1024, le=256 * 1024,
        why="Pictures travel in pieces of this size, so that none holds up another job's progress.",
    )  # fmt: skip
    handshake_timeout: float = setting(
        10.0, "HANDSHAKE_TIMEOUT", gt=0,
        why="From connecting to a good Hello, however many bytes come: strangers hold no connection longer.",
    )  # fmt: skip
    frame_timeout: float = setting(
        30.0, "FRAME_TIMEOUT", gt=0,
        why="From a frame's first byte to its last: a slow sender holds no memory longer.",
    )  # fmt: skip
    idle_timeout: float = setting(
        300.0, "IDLE_TIMEOUT", gt=0,
        why="A connection on which no whole message came for so long is closed; the client pings more often.",
    )  # fmt: skip
    slow_reader_timeout: float = setting(
        60.0, "SLOW_READER_TIMEOUT", gt=0,
        why="A client that reads nothing for so long is disconnected; its jobs live on and can be watched again.",
    )  # fmt: skip
    max_connections: int = setting(
        10_000, "MAX_CONNECTIONS", ge=1,
        why="In all. One costs about 10 kB, and an open file: raise `ulimit -n` too.",
    )  # fmt: skip
    max_connections_per_address: int = setting(
        500, "MAX_CONNECTIONS_PER_ADDRESS", ge=1,
        why="From one address, so that one machine cannot take all places; an office behind one address fits.",
    )  # fmt: skip
    max_requests_per_connection: int = setting(
        1000, "MAX_REQUESTS_PER_CONNECTION", ge=1,
        why="Jobs that one connection follows at once; each holds its latest progress in memory.",
    )  # fmt: skip

    @field_validator("tcp_listen")
    @classmethod
    def _known_endpoint(cls, value: str) -> str:
        if not value.startswith(_LISTEN_KINDS):
            raise ValueError(f"must begin with one of {', '.join(_LISTEN_KINDS)}")
        return value

    @field_validator("tokens", mode="before")
    @classmethod
    def _split_tokens(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        tokens: dict[str, str] = {}
        for position, pair in enumerate(filter(None, (part.strip() for part in value.split(","))), start=1):
            owner, colon, token = pair.partition(":")
            if not colon or not _OWNER.fullmatch(owner):  # the text must not show a token
                raise ValueError(f"entry {position} must be owner:token, the owner of letters, digits, dot, _ and -")
            if len(token) < 16:  # nor the owner, which is the token where someone swapped the two
                raise ValueError(f"entry {position} must have a token of 16 characters or more")
            if owner in tokens or token in tokens.values():
                raise ValueError(f"entry {position} repeats an owner or a token")
            tokens[owner] = token
        return tokens

    @model_validator(mode="after")
    def _chunks_fit_frames(self) -> Self:
        if self.chunk_bytes + CHUNK_ENVELOPE > self.max_frame_bytes:
            raise ValueError(f"ATELIER_CHUNK_BYTES must be at least {CHUNK_ENVELOPE} less than ATELIER_MAX_FRAME_BYTES")
        return self
