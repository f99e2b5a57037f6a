"""RabbitMQ from the settings: what a node of its role takes from the broker, and what it tells there."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from secrets import SystemRandom
from typing import Any, cast

from pydantic import SecretStr

from config import Settings, SettingsError
from server.clock import Clock
from server.commands import Predict, Submit
from server.doors.amqp.broker import Broker
from server.doors.amqp.canceling import Canceling
from server.doors.amqp.connection import BrokerAddress, RabbitMQ
from server.doors.amqp.dispatch import Dispatch
from server.doors.amqp.dispatching_again import DispatchingAgain
from server.doors.amqp.hearing import ControlEar, EventEar, Use, all_of
from server.doors.amqp.intake import Intake, IntakeParts, IntakeSettings
from server.doors.amqp.lasting import Lasting
from server.doors.amqp.publisher import Publisher
from server.doors.amqp.queues import Queues, exchanges
from server.doors.amqp.signatures import StoredSignatures
from server.doors.amqp.telling import Teller
from server.doors.amqp.worker import Worker, WorkerParts
from server.errors import JobFailure
from server.health import Health
from server.interfaces import Announcer, ArtifactStore, Claims, JobStore, Outbox
from server.job import Job
from server.jobs.board import Board
from server.jobs.elsewhere import Elsewhere
from server.jobs.lifecycle import Lifecycle
from server.replies import Admitted

_DEFAULT_PASSWORD = SecretStr("guest")
_chance = SystemRandom().random


@dataclass(frozen=True, slots=True, kw_only=True)
class AmqpParts:
    """What the door is joined to. `set_going` runs jobs of which this node has the lease."""

    submit: Callable[[Submit | Predict], Awaitable[Admitted]]
    set_going: Callable[[Sequence[Job]], None]
    lifecycle: Lifecycle
    board: Board
    elsewhere: Elsewhere
    store: JobStore
    claims: Claims
    dispatches: Outbox
    artifacts: ArtifactStore
    announcer: Announcer
    health: Health
    tell_refused: Callable[[int, JobFailure, str], Awaitable[None]]
    may_own: Callable[[str], Awaitable[bool]]
    watch_broker: Callable[[Broker], Broker] = lambda broker: broker


class AmqpDoor:
    """Raises SettingsError, when made, for a CA file that is none.

    `canceling` cancels a job on whichever node it is; `follow` is to be called with a job that another node may run; `ring`
    when there are jobs to dispatch.
    """

    def __init__(self, settings: Settings, reactor: Any, parts: AmqpParts) -> None:
        clock, board = cast(Clock, reactor), parts.board
        broker = parts.watch_broker(rabbitmq(settings, reactor))
        self._publisher = Publisher(broker, clock=clock, chance=_chance, declare=exchanges)
        self._ear = EventEar(board, parts.elsewhere)
        self._teller = Teller(self._publisher, parts.elsewhere.has, board.key_of, clock)
        self._dispatch = Dispatch(parts.dispatches, self._publisher, clock)
        self._again = DispatchingAgain(parts.claims, self._publisher, clock, settings.dispatch_again_after)
        self._dispatches = settings.role == "gateway"
        self._takers: list[Intake | Worker] = []
        self.canceling = Canceling(
            here=parts.lifecycle,
            store=parts.store,
            claims=parts.claims,
            board=board,
            announcer=parts.announcer,
            publisher=self._publisher,
            clock=clock,
        )
        self.follow, self.ring = self._ear.follow, self._dispatch.ring
        board.tap(self._ear)
        board.tap(self._teller)
        ears: list[Use] = [self._ear.use]
        uses: dict[str, Use] = {"hearing": partial(all_of, ears)}
        if settings.role != "worker":
            intake = _intake(settings, parts, self._publisher, clock)
            self._takers.append(intake)
            uses["consuming"] = intake.use
        if settings.role != "gateway":
            worker = _worker(settings, parts, self._publisher, clock)
            self._takers.append(worker)
            uses["working"] = worker.use
            ears.append(ControlEar(parts.lifecycle.cancel).use)
        # Each on a connection of its own: a quorum queue without a leader costs whoever consumes it the whole connection.
        self._lasting = [Lasting(broker, name, use, clock=clock, chance=_chance) for name, use in uses.items()]

    def start(self) -> None:
        """Connect, in the background: the server serves whether or not a broker is there."""
        self._publisher.start()
        self._teller.start()
        for lasting in self._lasting:
            lasting.start()
        if self._dispatches:
            self._dispatch.start()
            self._again.start()

    def stop_taking(self) -> None:
        """No more messages; those whose jobs still end are acknowledged."""
        for taker in self._takers:
            taker.stop_taking()

    async def close(self) -> None:
        """Hang up; what was not acknowledged is delivered again, here or elsewhere."""
        self.canceling.stop()
        await self._teller.stop()
        await asyncio.gather(*(lasting.stop() for lasting in self._lasting))
        await self._again.stop()
        await self._dispatch.stop()
        await self._publisher.stop()


def rabbitmq(settings: Settings, reactor: Any) -> RabbitMQ:
    """The broker of the settings. Raises SettingsError."""
    address = BrokerAddress(
        hosts=settings.rabbitmq_hosts(),
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


def _intake(settings: Settings, parts: AmqpParts, publisher: Publisher, clock: Clock) -> Intake:
    return Intake(
        IntakeSettings(
            queues=Queues(settings.rabbitmq_queue),
            owner=settings.rabbitmq_owner,
            prefetch=settings.rabbitmq_prefetch,
            max_bytes=settings.max_message_bytes,
            retry_delays=settings.retry_delays,
        ),
        IntakeParts(
            submit=parts.submit,
            board=parts.board,
            store=parts.store,
            pictures=StoredSignatures(parts.artifacts, settings.max_signature_image_bytes),
            publisher=publisher,
            tell_refused=parts.tell_refused,
            can_paint=lambda: not parts.health.dead,
            clock=clock,
            chance=_chance,
            may_own=parts.may_own,
        ),
    )


def _worker(settings: Settings, parts: AmqpParts, publisher: Publisher, clock: Clock) -> Worker:
    return Worker(
        settings.rabbitmq_prefetch,
        WorkerParts(
            claims=parts.claims,
            is_here=parts.lifecycle.has,
            set_going=parts.set_going,
            board=parts.board,
            publisher=publisher,
            can_paint=lambda: not parts.health.dead,
            dead=Queues(settings.rabbitmq_queue).dead,
            clock=clock,
            chance=_chance,
        ),
    )
