"""Hearing what other nodes say: of jobs that someone here follows, and of cancels.

Each node has a queue of its own, which is gone with its connection; what is lost with it is found in the records
(server.jobs.elsewhere), or asked for again (server.doors.amqp.canceling).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from server.doors.amqp.broker import Channel, Link, LinkLost
from server.doors.amqp.events import heard, keys_of
from server.doors.amqp.queues import CONTROL, EVENTS, exchanges
from server.events import Canceled, Event, Failed, Succeeded
from server.futures import Tasks
from server.jobs.board import Board
from server.jobs.elsewhere import Elsewhere

log = structlog.get_logger("atelier.amqp")

AHEAD = 200  # messages that the broker may send before the first of them was heard

Use = Callable[[Link], Coroutine[Any, Any, None]]


class EventEar:
    """Hears of the jobs that `elsewhere` looks after, and puts it on the board, as if it happened here."""

    def __init__(self, board: Board, elsewhere: Elsewhere) -> None:
        self._board = board
        self._elsewhere = elsewhere
        self._tasks = Tasks()
        self._bound: set[str] = set()
        self._channel: Channel | None = None
        self._queue = ""

    def follow(self, job_id: str) -> None:
        """Someone follows a job that another node may run."""
        self._elsewhere.look_after(job_id)
        if self._channel is not None:
            self._tasks.start(self._bind(self._channel, job_id))

    def job_event(self, event: Event) -> None:
        """As a `Watcher` of all jobs: one that has ended is heard of no more."""
        if isinstance(event, Succeeded | Failed | Canceled) and event.job_id in self._bound:
            self._bound.discard(event.job_id)
            if self._channel is not None:
                self._tasks.start(self._unbind(self._channel, event.job_id))

    async def use(self, link: Link) -> None:
        """Hear, as long as the link lasts. Raises LinkLost."""
        await exchanges(link)
        channel = await link.channel()
        try:
            self._queue = await _own_queue(channel)
            self._channel = channel
            for job_id in self._elsewhere.ids:
                await self._bind(channel, job_id)
            deliveries = await channel.consume(self._queue, prefetch=AHEAD)
            while True:
                delivery = await deliveries.next()
                self._hear(delivery.body)
                channel.ack(delivery.tag)
        finally:
            self._channel = None
            self._bound.clear()

    def _hear(self, body: bytes) -> None:
        try:
            job_id, event = heard(body)
        except ValueError as error:
            log.warning("amqp.not_an_event", reason=str(error))
            return
        if not self._elsewhere.has(job_id):
            return
        if event is None:
            self._elsewhere.ended(job_id)
        else:
            self._elsewhere.heard(job_id)
            self._board.relay(event)

    async def _bind(self, channel: Channel, job_id: str) -> None:
        try:
            await channel.bind(self._queue, EVENTS, keys_of(job_id))
        except LinkLost as lost:  # all are bound anew with the next
            log.debug("amqp.not_bound", job_id=job_id, reason=str(lost))
        else:
            self._bound.add(job_id)

    async def _unbind(self, channel: Channel, job_id: str) -> None:
        try:
            await channel.unbind(self._queue, EVENTS, keys_of(job_id))
        except LinkLost as lost:
            log.debug("amqp.not_unbound", job_id=job_id, reason=str(lost))


class ControlEar:
    """Hears which jobs are to be cancelled, and tells `cancel` of them."""

    def __init__(self, cancel: Callable[[str], None]) -> None:
        self._cancel = cancel

    async def use(self, link: Link) -> None:
        """Hear, as long as the link lasts. Raises LinkLost."""
        await exchanges(link)
        channel = await link.channel()
        queue = await _own_queue(channel)
        await channel.bind(queue, CONTROL, "")
        deliveries = await channel.consume(queue, prefetch=AHEAD)
        while True:
            delivery = await deliveries.next()
            self._hear(delivery.body)
            channel.ack(delivery.tag)

    def _hear(self, body: bytes) -> None:
        try:
            job_id = json.loads(body)["cancel"]
        except (ValueError, KeyError, TypeError):
            log.warning("amqp.not_an_order")
            return
        if isinstance(job_id, str):
            self._cancel(job_id)


async def _own_queue(channel: Channel) -> str:
    return await channel.declare_queue("", durable=False, exclusive=True, auto_delete=True)


async def all_of(uses: Sequence[Use], link: Link) -> None:
    """Use one link for several things; the first that ends in an error ends them all, with the link. Raises LinkLost."""
    tasks = [asyncio.ensure_future(use(link)) for use in uses]
    try:
        await asyncio.gather(*tasks)
    finally:
        await link.close()
        await asyncio.gather(*tasks, return_exceptions=True)
