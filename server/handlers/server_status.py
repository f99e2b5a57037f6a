"""GetServerStatus: how the server is doing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ai.types import EngineNumbers
from server import __version__
from server.backlog import Backlog, ChannelBacklog
from server.clock import Clock
from server.commands import GetServerStatus
from server.health import Health
from server.interfaces import Painter
from server.job import JobState
from server.jobs.lifecycle import Lifecycle
from server.lag import LagMeter
from server.model_names import registered
from server.replies import OutboxView, StatusReply
from server.webhook import CallState, Channel


class ServerStatusHandler:
    """Gathers the numbers. `connections` counts the open ones of all doors, `backlog` is what the records held a moment ago,
    `settings` says where the server has its own from."""

    def __init__(
        self,
        *,
        health: Health,
        painter: Painter,
        lifecycle: Lifecycle,
        lag: LagMeter,
        clock: Clock,
        connections: Callable[[], int],
        device: str,
        backlog: Callable[[], Backlog] = Backlog,
        settings: Callable[[], str] = str,
    ) -> None:
        self._health = health
        self._painter = painter
        self._lifecycle = lifecycle
        self._lag = lag
        self._clock = clock
        self._connections = connections
        self._device = device
        self._backlog = backlog
        self._settings = settings
        self._started_at = clock.seconds()

    def __call__(self, command: GetServerStatus) -> StatusReply:
        """Answers at once."""
        numbers = self._painter.numbers()
        ended = self._lifecycle.ended
        return StatusReply(
            state=self._health.state,
            server_version=__version__,
            uptime_seconds=self._clock.seconds() - self._started_at,
            connections=self._connections(),
            jobs_waiting=self._lifecycle.waiting,
            jobs_running=self._lifecycle.live - self._lifecycle.waiting,
            jobs_succeeded=ended[JobState.SUCCEEDED],
            jobs_failed=ended[JobState.FAILED],
            jobs_canceled=ended[JobState.CANCELED],
            batch_size=numbers.last_batch,
            steps=numbers.steps,
            step_seconds=numbers.step_seconds,
            reactor_lag_p99_ms=self._lag.p99_ms(),
            device=numbers.device or self._device,
            problem=self._health.problem,
            queue_wait_seconds=numbers.queue_waits.mean,
            join_wait_seconds=numbers.join_waits.mean,
            devices=tuple(map(_without_users_models, numbers.devices)),
            outbox=self._outbox(),
            settings=self._settings(),
        )

    def _outbox(self) -> OutboxView:
        now, backlog = self._clock.seconds(), self._backlog()
        webhooks, dispatches = backlog.channel(Channel.WEBHOOK), backlog.channel(Channel.DISPATCH)
        return OutboxView(
            webhooks_waiting=_to_be_made(webhooks),
            webhooks_unknown=webhooks.calls.get(CallState.UNKNOWN, 0),
            webhooks_failed=webhooks.calls.get(CallState.DEAD, 0),
            webhooks_oldest_seconds=webhooks.age(now),
            dispatches_waiting=_to_be_made(dispatches),
            dispatches_oldest_seconds=dispatches.age(now),
        )


def _without_users_models(device: EngineNumbers) -> EngineNumbers:
    """What users call their models is no business of others."""
    return replace(device, models=tuple(name for name in device.models if not registered(name)))


def _to_be_made(backlog: ChannelBacklog) -> int:
    return backlog.calls.get(CallState.WAITING, 0) + backlog.calls.get(CallState.SENDING, 0)
