"""The settings of the RabbitMQ door, and of several nodes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings

from config.fields import setting
from config.hosts import hosts_of

AMQP_PORT, AMQPS_PORT = 5672, 5671  # as brokers have them
_OWNER = re.compile(r"[A-Za-z0-9._-]{1,64}")


class BrokerSettings(BaseSettings):
    """Part of `config.Settings`."""

    role: Literal["all", "gateway", "worker"] = setting(
        "all", "ROLE",
        why="gateway: doors only, its jobs go to workers by RabbitMQ. worker: the engine only (docs/operations.md).",
    )  # fmt: skip
    rabbitmq_host: str = setting(
        "", "RABBITMQ_HOST", "RABBITMQ_HOST",
        why="The broker from which jobs are taken (docs/rabbitmq.md); of a cluster all hosts: a,b:5673. Empty: none.",
    )  # fmt: skip
    rabbitmq_port: int = setting(
        0, "RABBITMQ_PORT", "RABBITMQ_PORT", ge=0, le=65_535, why="Of hosts that name none. 0: 5672, or 5671 with TLS."
    )
    rabbitmq_user: str = setting("guest", "RABBITMQ_USER", "RABBITMQ_USER", why="The broker's own default.")
    rabbitmq_pass: SecretStr = setting(
        SecretStr(""), "RABBITMQ_PASS", "RABBITMQ_PASS",
        why="Empty: the broker's default, which it takes from its own machine alone. One that was changed needs a restart here.",
    )  # fmt: skip
    rabbitmq_vhost: str = setting("/", "RABBITMQ_VHOST", why="The virtual host in which the queues are.")
    rabbitmq_tls: bool = setting(
        False, "RABBITMQ_TLS", why="Connect by TLS; the broker's certificate has to be for RABBITMQ_HOST."
    )
    rabbitmq_ca_file: Path | None = setting(
        None, "RABBITMQ_CA_FILE", why="A PEM file of the authority that signed it, instead of the system's."
    )
    rabbitmq_heartbeat: int = setting(
        10, "RABBITMQ_HEARTBEAT", ge=1, le=600,
        why="Seconds. A broker that fell silent is given up after about twice this and ten more.",
    )  # fmt: skip
    rabbitmq_queue: str = setting(
        "image_generation", "RABBITMQ_QUEUE", pattern=r"^[A-Za-z0-9._-]{1,200}$",
        why="Where jobs come from. Refused messages go to QUEUE.dead, retries wait in QUEUE.delay.MILLISECONDS.",
    )  # fmt: skip
    rabbitmq_owner: str = setting(
        "backend", "RABBITMQ_OWNER",
        why="Who owns jobs that come this way: with a token for this name they can be watched over TCP.",
    )  # fmt: skip
    rabbitmq_prefetch: int = setting(
        10, "RABBITMQ_PREFETCH", "MAX_CONCURRENT_GENERATIONS", ge=1, le=1000,
        why="Messages taken and not yet ended: as many jobs are under way from here, in one batch where they fit.",
    )  # fmt: skip
    dispatch_again_after: float = setting(
        60.0, "DISPATCH_AGAIN_AFTER", ge=1, le=86_400,
        why="A gateway's job that no worker has taken for so long, while nothing waits in atelier.jobs, is dispatched again.",
    )  # fmt: skip
    max_message_bytes: int = setting(
        2 << 20, "MAX_MESSAGE_BYTES", ge=1024, le=1 << 27,
        why="Largest message that is read: an init image and a signature, in base64, fit. Beyond, it is refused unread.",
    )  # fmt: skip

    @field_validator("rabbitmq_host")
    @classmethod
    def _broker_hosts(cls, value: str) -> str:
        hosts_of(value, 0)
        return value

    @field_validator("rabbitmq_owner")
    @classmethod
    def _an_owner(cls, value: str) -> str:
        if not _OWNER.fullmatch(value):
            raise ValueError("must be 1 to 64 letters, digits, dots, _ and -")
        return value

    @model_validator(mode="after")
    def _roles_need_a_broker(self) -> Self:
        if self.role != "all" and not self.rabbitmq_host:
            raise ValueError(f"ATELIER_ROLE={self.role} needs RABBITMQ_HOST")
        return self

    def rabbitmq_hosts(self) -> tuple[tuple[str, int], ...]:
        """Host and port of every node of the broker."""
        return hosts_of(self.rabbitmq_host, self.rabbitmq_port or (AMQPS_PORT if self.rabbitmq_tls else AMQP_PORT))
