"""The RabbitMQ door from its settings: two connections that last, one to consume and one to publish."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from secrets import SystemRandom
from typing import Any, cast

from pydantic import SecretStr

from config import Settings, SettingsError
from server.clock import Clock
from server.commands import Submit
from server.doors.amqp.connection import BrokerAddress, RabbitMQ
from server.doors.amqp.intake import Intake, IntakeParts, IntakeSettings
from server.doors.amqp.lasting import Lasting
from server.doors.amqp.publisher import Publisher
from server.doors.amqp.queues import Queues
from server.doors.amqp.signatures import StoredSignatures
from server.errors import JobFailure
from server.health import Health
from server.interfaces import ArtifactStore, JobStore
from server.jobs.board import Board
from server.replies import Admitted

PORT, TLS_PORT = 5672, 5671  # as brokers have them
_DEFAULT_PASSWORD = SecretStr("guest")
_chance = SystemRandom().random


class AmqpDoor:
    """Raises SettingsError, when made, for a CA file that is none."""

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        *,
        submit: Callable[[Submit], Awaitable[Admitted]],
        board: Board,
        store: JobStore,
        artifacts: ArtifactStore,
        health: Health,
        tell_refused: Callable[[int, JobFailure, str], Awaitable[None]],
    ) -> None:
        clock = cast(Clock, reactor)
        broker = rabbitmq(settings, reactor)
        self._publisher = Publisher(broker, clock=clock, chance=_chance)
        self._intake = Intake(
            IntakeSettings(
                queues=Queues(settings.rabbitmq_queue),
                owner=settings.rabbitmq_owner,
                prefetch=settings.rabbitmq_prefetch,
                max_bytes=settings.max_message_bytes,
                retry_delays=settings.retry_delays,
            ),
            IntakeParts(
                submit=submit,
                board=board,
                store=store,
                pictures=StoredSignatures(artifacts, settings.max_signature_image_bytes),
                publisher=self._publisher,
                tell_refused=tell_refused,
                can_paint=lambda: not health.dead,
                clock=clock,
                chance=_chance,
            ),
        )
        self._consuming = Lasting(broker, "consuming", self._intake.use, clock=clock, chance=_chance)

    def start(self) -> None:
        """Connect, in the background: the server serves whether or not a broker is there."""
        self._publisher.start()
        self._consuming.start()

    def stop_taking(self) -> None:
        """No more messages; those whose jobs still end are acknowledged."""
        self._intake.stop_taking()

    async def close(self) -> None:
        """Hang up; what was not acknowledged is delivered again, here or elsewhere."""
        await self._consuming.stop()
        await self._publisher.stop()


def rabbitmq(settings: Settings, reactor: Any) -> RabbitMQ:
    """The broker of the settings. Raises SettingsError."""
    address = BrokerAddress(
        host=settings.rabbitmq_host,
        port=settings.rabbitmq_port or (TLS_PORT if settings.rabbitmq_tls else PORT),
        user=settings.rabbitmq_user,
        password=settings.rabbitmq_pass if settings.rabbitmq_pass.get_secret_value() else _DEFAULT_PASSWORD,
        vhost=settings.rabbitmq_vhost,
        tls=settings.rabbitmq_tls,
        ca_file=settings.rabbitmq_ca_file,
        heartbeat=settings.rabbitmq_heartbeat,
    )
    try:
        return RabbitMQ(reactor, address, cast(Clock, reactor))
    except Exception as error:  # of OpenSSL's, for a file that is no certificate
        raise SettingsError(f"ATELIER_RABBITMQ_CA_FILE: {address.ca_file}: {error or type(error).__name__}") from None
