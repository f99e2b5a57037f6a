"""Messages in, jobs out: each delivery is read, admitted, and held until its job has ended.

A delivery is only a handle of its job: whoever holds it, the job's record decides. What is refused goes to the dead letters;
what the server cannot take now (no place, no records) waits here, unacknowledged, and holds up nobody but its own queue.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import structlog

from server.clock import Clock
from server.commands import Predict, Submit
from server.doors.amqp.broker import Link, NotPublished, Properties, Publishes
from server.doors.amqp.consuming import Consuming
from server.doors.amqp.dead_letters import bury
from server.doors.amqp.delivery import Following, Handle
from server.doors.amqp.events import REFUSED, refusal_of
from server.doors.amqp.forms import FormRefusal, read_order
from server.doors.amqp.order import Order
from server.doors.amqp.queues import EVENTS, Queues, stands
from server.errors import Code, JobFailure, RecordsUnavailable, Refusal
from server.futures import Tasks
from server.incoming import INCOMING, Incoming, traceparent_of
from server.interfaces import JobStore
from server.jobs.board import Board
from server.limits import LimitReached
from server.replies import Admitted

log = structlog.get_logger("atelier.amqp")

JOB = "x-atelier-job"  # header of a copy that waits for a retry: for people who look into the queue
LIMIT = "x-atelier-limit"  # the same of one that waits for a limit of its owner, by the limit's name
OWNER = "x-atelier-owner"  # header of a message that somebody else than the settings' owner is to own
SHORTEST_DELAY = 1.0  # seconds; a retry that comes sooner is waited for with the delivery in hand
TRY_AGAIN = 5.0  # seconds, where nobody said when

_NEWS = Properties(content_type="application/json", type="atelier.event", mandatory=False)
_PASSING = frozenset({Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE})


class Pictures(Protocol):
    """The pictures of signatures, in the storage."""

    async def read(self, key: str) -> bytes:
        """The whole picture. Raises Refusal for what will never be one; OSError where the storage cannot be read now."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeSettings:
    """`owner` owns the jobs that come this way and name no other; `retry_delays` (seconds) are those of jobs, and of reading the
    storage."""

    queues: Queues
    owner: str
    prefetch: int
    max_bytes: int
    retry_delays: Sequence[float]


async def _nobody(owner: str) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakeParts:
    """What the intake works with.

    `may_own` says whether there is such an owner. `tell_refused` records the failed call of a generation whose message was
    refused; `can_paint` is false when nothing ever will be painted here any more.
    """

    submit: Callable[[Submit | Predict], Awaitable[Admitted]]
    board: Board
    store: JobStore
    pictures: Pictures
    publisher: Publishes
    tell_refused: Callable[[int, JobFailure, str], Awaitable[None]]
    can_paint: Callable[[], bool]
    clock: Clock
    chance: Callable[[], float]
    may_own: Callable[[str], Awaitable[bool]] = _nobody


class Intake:
    """Consumes the jobs' queue."""

    def __init__(self, settings: IntakeSettings, parts: IntakeParts) -> None:
        self._settings = settings
        self._queues = settings.queues
        self._parts = parts
        self._tasks = Tasks()
        self._delays: dict[float, str] = {}  # the queue of each delay, where there is one that does what it should
        self._following = Following(parts.board, self._retried)
        self._consuming = Consuming(
            settings.queues.jobs,
            settings.prefetch,
            declare=self._declare,
            take=self._take,
            following=self._following,
            clock=parts.clock,
            chance=parts.chance,
        )
        self._pauses = self._consuming.pauses

    async def use(self, link: Link) -> None:
        """Consume as long as the link lasts. Raises LinkLost."""
        await self._consuming.use(link)

    def stop_taking(self) -> None:
        """Take no more. What is held can still be acknowledged, until the link is closed."""
        self._consuming.stop()

    @property
    def held(self) -> int:
        """Deliveries whose jobs have not ended."""
        return len(self._following)

    async def _declare(self, link: Link) -> None:
        await stands(link, self._queues.jobs)
        await stands(link, self._queues.dead)
        self._delays = {
            delay: self._queues.delay(delay)
            for delay in set(self._settings.retry_delays)
            if delay >= SHORTEST_DELAY and await stands(link, self._queues.delay(delay), self._queues.delaying(delay))
        }

    # One delivery

    async def _take(self, handle: Handle) -> None:
        delivery, settings = handle.delivery, self._settings
        traceparent = traceparent_of(delivery.properties.headers.get("traceparent"))
        INCOMING.set(Incoming("amqp", self._parts.clock.seconds(), traceparent))
        try:
            owner = self._owner_of(handle)
            order = read_order(delivery.body, delivery.properties, owner=owner, max_bytes=settings.max_bytes)
        except FormRefusal as refusal:
            await self._refuse(handle, refusal, refusal.key, refusal.generation_id, refusal.webhook_url)
            return
        hook, key = order.submit.webhook, order.submit.idempotency_key
        generation, url = (hook.generation_id, hook.url) if hook is not None else (None, "")
        try:
            await self._carry_out(handle, order)
        except Refusal as refusal:
            await self._refuse(handle, order.in_its_words(refusal), key, generation, url)
        except Exception as error:
            log.exception("amqp.broken", key=key)
            broken = Refusal(Code.INTERNAL_ERROR, f"the server erred: {type(error).__name__}")
            await self._refuse(handle, broken, key, generation, url)

    async def _carry_out(self, handle: Handle, order: Order) -> None:
        """Admit the job and follow it, as soon as the server can. Raises Refusal for what never will be a job."""
        job_id = ""
        while handle.open and not self._consuming.stopping:
            try:
                await self._check_owner(order.submit.owner)
                job_id = job_id or (await self._parts.submit(await self._signed(order))).job.id
                await self._following.follow(handle, job_id)
            except Refusal as refusal:
                if refusal.code not in _PASSING:
                    raise
                if not self._parts.can_paint():
                    self._leave_to_others(refusal)
                if isinstance(refusal, LimitReached) and await self._put_off(handle, refusal):
                    return
                await self._pauses.take(refusal.retry_after_seconds or TRY_AGAIN)
            else:
                return

    def _owner_of(self, handle: Handle) -> str:
        named = handle.delivery.properties.headers.get(OWNER)
        return str(named) if named else self._settings.owner

    async def _check_owner(self, owner: str) -> None:
        """Raise Refusal for one that is not there: whoever publishes speaks for the owners there are."""
        if owner != self._settings.owner and not await self._parts.may_own(owner):
            text = f"the header {OWNER} names no owner of this server"
            raise Refusal(Code.PERMISSION_DENIED, text, field=OWNER, limit="an account that is active")

    async def _signed(self, order: Order) -> Submit | Predict:
        """The Submit with the picture of its signature, which may take a few tries to be read."""
        if order.signature is None:
            return order.submit
        for delay in (*self._settings.retry_delays, None):
            try:
                return order.signed(await self._parts.pictures.read(order.signature.key))
            except OSError as error:
                log.warning("amqp.picture_unread", key=order.signature.key, reason=str(error))
                if delay is None:
                    break
            if not await self._pauses.take(delay):
                raise Refusal(Code.UNAVAILABLE, "the server is stopping", retry_after_seconds=TRY_AGAIN)
        raise Refusal(Code.STORAGE_FAILED, "the picture of the signature cannot be read now", field="signature")

    def _leave_to_others(self, refusal: Refusal) -> None:
        """Nothing will be painted here any more: other nodes take what is in the queue."""
        log.error("amqp.given_up", reason=refusal.message)
        self._consuming.give_up()

    # A retry

    def _retried(self, handle: Handle, job_id: str, delay: float) -> None:
        queue = self._delays.get(delay)
        if queue is not None:
            self._tasks.start(self._postpone(handle, job_id, queue))

    async def _postpone(self, handle: Handle, job_id: str, queue: str) -> None:
        if await self._let_wait(handle, queue, {JOB: job_id}):
            self._following.leave(handle)

    async def _put_off(self, handle: Handle, reached: LimitReached) -> bool:
        """The same where its owner has to wait, for as long as a queue there is for it, so that it holds up no other owner's."""
        delays = [delay for delay in self._delays if delay <= reached.retry_after_seconds]
        return bool(delays) and await self._let_wait(handle, self._delays[max(delays)], {LIMIT: reached.name})

    async def _let_wait(self, handle: Handle, queue: str, headers: dict[str, str]) -> bool:
        """Let a copy wait in the broker instead of the delivery here, which takes one of few places; whether it does."""
        delivery = handle.delivery
        properties = replace(delivery.properties, headers={**delivery.properties.headers, **headers})
        try:
            await self._parts.publisher.publish("", queue, delivery.body, properties)
        except NotPublished as error:  # then it waits here
            log.warning("amqp.not_postponed", reason=str(error), **headers)
            return False
        handle.ack()
        return True

    # A refusal

    async def _refuse(
        self, handle: Handle, refusal: Refusal, key: str, generation_id: int | None, webhook_url: str
    ) -> None:
        """Tell whoever waits for it, keep the message for a person, and be done with it: in this order."""
        log.warning("amqp.refused", key=key, code=refusal.code.name, field=refusal.field, reason=refusal.message)
        while handle.open:
            try:
                if generation_id is not None and not await self._is_job(self._owner_of(handle), key):
                    failure = JobFailure(refusal.code, refusal.message, field=refusal.field, limit=refusal.limit)
                    await self._parts.tell_refused(generation_id, failure, webhook_url)
                at = self._parts.clock.seconds()
                await bury(
                    handle, refusal, self._parts.publisher, queue=self._queues.jobs, dead=self._queues.dead, at=at
                )
            except (RecordsUnavailable, NotPublished) as error:
                log.warning("amqp.not_refused", key=key, reason=str(error))
                if not await self._pauses.take(TRY_AGAIN):
                    return
            else:
                await self._tell(refusal_of(refusal, key, handle.delivery.properties.message_id))

    async def _tell(self, refused: bytes) -> None:
        """News: whoever missed it finds the message among the dead letters."""
        try:
            await self._parts.publisher.publish(EVENTS, REFUSED, refused, _NEWS)
        except NotPublished as error:
            log.debug("amqp.untold", reason=str(error))

    async def _is_job(self, owner: str, key: str) -> bool:
        """Whether a job answers for this key: then it is the job's end that is told."""
        return bool(key) and await self._parts.store.find(owner, key) is not None
