"""A delivery until it is acknowledged: when its job has ended, or when the broker has the copy that waits for a retry."""

from __future__ import annotations

from collections.abc import Callable

from server.doors.amqp.broker import Channel, Delivery
from server.errors import Code, Refusal
from server.events import Canceled, Event, Failed, Phase, Progress, Succeeded
from server.jobs.board import Board


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


class _Follower:
    """A `Watcher` that acknowledges a delivery when its job has ended."""

    def __init__(self, handle: Handle, job_id: str, following: Following) -> None:
        self.handle = handle
        self.job_id = job_id
        self._following = following

    def job_event(self, event: Event) -> None:
        """The end is recorded before it is told."""
        if isinstance(event, Succeeded | Failed | Canceled):
            self.handle.ack()
            self._following.ended(self)
        elif isinstance(event, Progress) and event.phase is Phase.RETRYING:
            self._following.retried(self, event.eta_seconds)


class Following:
    """The deliveries that wait for their jobs' ends. `on_retry` is told of one whose job waits so many seconds for a retry."""

    def __init__(self, board: Board, on_retry: Callable[[Handle, str, float], None] = lambda *_: None) -> None:
        self._board = board
        self._on_retry = on_retry
        self._followers: dict[Handle, _Follower] = {}

    def __len__(self) -> int:
        return len(self._followers)

    async def follow(self, handle: Handle, job_id: str) -> None:
        """Acknowledge it when the job has ended. Raises RecordsUnavailable."""
        follower = self._followers[handle] = _Follower(handle, job_id, self)
        try:
            await self._board.follow(job_id, follower)
        except Refusal as refusal:
            self._followers.pop(handle, None)
            if refusal.code is not Code.JOB_NOT_FOUND:
                raise
            handle.ack()  # it ended so long ago that it is forgotten
        else:
            if not handle.open:  # its channel has gone meanwhile
                self.leave(handle)

    def leave(self, handle: Handle) -> None:
        """Wait for it no more."""
        follower = self._followers.pop(handle, None)
        if follower is not None:
            self._board.leave(follower.job_id, follower)

    def drop_closed(self) -> None:
        """What was delivered on a channel that is closed comes again, and is followed then."""
        for handle in [handle for handle in self._followers if not handle.open]:
            self.leave(handle)

    def ended(self, follower: _Follower) -> None:
        """Its job has."""
        self._followers.pop(follower.handle, None)

    def retried(self, follower: _Follower, delay: float) -> None:
        """Its job waits."""
        self._on_retry(follower.handle, follower.job_id, delay)
