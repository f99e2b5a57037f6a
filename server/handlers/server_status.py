"""GetServerStatus: how the server is doing."""

from __future__ import annotations

from collections.abc import Callable

from server import __version__
from server.clock import Clock
from server.commands import GetServerStatus
from server.health import Health
from server.interfaces import Painter
from server.job import JobState
from server.jobs.lifecycle import Lifecycle
from server.lag import LagMeter
from server.replies import StatusReply


class ServerStatusHandler:
    """Gathers the numbers. `connections` counts the open ones of all doors."""

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
    ) -> None:
        self._health = health
        self._painter = painter
        self._lifecycle = lifecycle
        self._lag = lag
        self._clock = clock
        self._connections = connections
        self._device = device
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
            devices=numbers.devices,
        )
