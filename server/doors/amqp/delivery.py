"""A delivery until it is acknowledged: when its job has ended, or when the broker has the copy that waits for a retry."""

from __future__ import annotations

from collections.abc import Callable

from server.doors.amqp.broker import Channel, Delivery
from server.events import Canceled, Event, Failed, Phase, Progress, Succeeded


class Handle:
    """One delivery on its channel: acknowledged once, and not at all when the channel is gone."""

    def __init__(self, channel: Channel, delivery: Delivery) -> None:
        self.delivery = delivery
        self._channel = channel
        self._acked = False

    @property
    def open(self) -> bool:
        """Whether it is still ours to acknowledge."""
        return not self._acked and not self._channel.closed.done()

    def ack(self) -> None:
        """Done with it."""
        if self.open:
            self._channel.ack(self.delivery.tag)
        self._acked = True


class Follower:
    """A `Watcher` that acknowledges a delivery when its job has ended."""

    def __init__(
        self,
        handle: Handle,
        job_id: str,
        *,
        on_end: Callable[[Follower], None],
        on_retry: Callable[[Follower, float], None],
    ) -> None:
        self.handle = handle
        self.job_id = job_id
        self._on_end = on_end
        self._on_retry = on_retry

    def job_event(self, event: Event) -> None:
        """The end is recorded before it is told."""
        if isinstance(event, Succeeded | Failed | Canceled):
            self.handle.ack()
            self._on_end(self)
        elif isinstance(event, Progress) and event.phase is Phase.RETRYING:
            self._on_retry(self, event.eta_seconds)
