"""Bots at the RabbitMQ door (docs/rabbitmq.md): each publishes Atelier's own message, and all of a process hear atelier.events.

    amqp://user:password@host:5672/vhost?queue=image_generation

A message is known by its idempotency key: the first event that carries it says which job it became. What a queue cannot do is not
asked of it: nobody is turned away (messages wait), nobody reads slowly (the broker does the reading), nobody logs in.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from bot.doors.amqp_address import parsed
from bot.doors.amqp_news import News, refusal_of
from bot.doors.door import Health
from bot.doors.http import body_of
from bot.errors import CannotConnectError, ClientClosedError, ClientError
from bot.patience import Backoff, Patience
from bot.reconnecting import Tell
from bot.visit import End, Visit
from bot.waiting import pause, within
from server.clock import Clock
from server.doors.amqp.broker import Broker, Channel, Link, LinkLost, NotPublished, Properties
from server.doors.amqp.connection import RabbitMQ
from server.doors.amqp.own import TYPE
from server.doors.amqp.queues import CONTROL, EVENTS
from server.errors import Code

AHEAD = 500  # events that the broker may send before the first of them was heard
KEPT = 300_000  # milliseconds that the queue of events outlives its listener: a broker's restart
MIDDLE = 0.5  # in place of chance: bots of one seed behave the same
COPED_WITHIN = 15.0  # seconds
_JSON = Properties(content_type="application/json", type=TYPE)
_LEFT_OUT = frozenset({"preview_every_steps"})  # previews are nobody's news here
BABBLES: tuple[tuple[str, bytes], ...] = (
    ("no JSON", b"{"),
    ("a list", b"[1, 2]"),
    ("no type", b"{}"),
    ("another's type", b'{"type": "dance"}'),
    ("no prompt", b'{"type": "atelier.submit"}'),
    ("an unknown field", b'{"type": "atelier.submit", "prompt": "x", "colour": 1}'),
    ("a size that is none", b'{"type": "atelier.submit", "prompt": "x", "width": 7}'),
    (
        "a generation without a prompt",
        b'{"task_id": "t", "type": "image_generation", "data": {"generation_id": "one"}}',
    ),
)
"""What no backend should publish: name, body. It has to be refused, and told of as that."""


class AmqpSession:
    """One bot: a connection of its own to publish by."""

    def __init__(self, door: AmqpDoor) -> None:
        self._door = door
        self._link: Link | None = None
        self._channel: Channel | None = None
        self._sending: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()
        self._open = False
        self._dropped = False  # by ourselves: nothing to tell

    @property
    def alive(self) -> bool:
        """Whether it was let in and not given up."""
        return self._open

    async def open(self) -> None:
        """Connect."""
        await self._connected()
        self._open = True

    def send(self, visit: Visit) -> None:
        """Publish, and hear of it."""
        if not self._open:
            raise ClientClosedError("the session is closed, or was given up")
        self._door.news.expect(visit)
        task = asyncio.ensure_future(self._sent(visit))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def cancel(self, job_id: str) -> None:
        """Tell all nodes."""
        await self._door.publish(CONTROL, "", json.dumps({"cancel": job_id}).encode(), replace(_JSON, mandatory=False))

    def drop(self) -> None:
        """Close the connection in the middle of whatever it does."""
        self._dropped = True
        if self._channel is not None:
            self._channel.close()
        self._channel = None

    def hold(self, held: bool) -> None:
        """The broker reads for those who do not."""

    async def close(self) -> None:
        """Hang up."""
        self._open = False
        for task in tuple(self._sending):
            task.cancel()
        await asyncio.gather(*self._sending, return_exceptions=True)
        if self._link is not None:
            await self._link.close()

    async def _sent(self, visit: Visit) -> None:
        """Publish until the broker has it: it may then have it twice, under one key."""
        body = {"type": TYPE, "idempotency_key": visit.key, **body_of(visit.order)}
        text = json.dumps({name: value for name, value in body.items() if name not in _LEFT_OUT}).encode()
        properties = replace(_JSON, message_id=uuid.uuid4().hex)
        self._door.news.when_refused(properties.message_id, lambda told: _refused(visit, told))
        visit.on_sent()
        try:
            await self._door.patiently(lambda: self._publish(text, properties), self._lost)
        except ClientError as error:
            self._open = False
            visit.finish(End.LOST, str(error))

    async def _publish(self, body: bytes, properties: Properties) -> None:
        channel = await self._connected()
        await channel.publish("", self._door.queue, body, properties)

    async def _connected(self) -> Channel:
        async with self._opening:
            if self._channel is None or self._channel.closed.done():
                if self._link is None or self._link.closed.done():
                    self._link = await self._door.connect("a bot")
                self._channel = await self._link.channel(confirming=True)
            return self._channel

    def _lost(self, error: Exception, attempt: int) -> None:
        if not self._dropped:
            self._door.tell(str(error), attempt)
        self._dropped = False


class AmqpDoor:
    """A broker by its URL, and the server behind it."""

    def __init__(
        self, reactor: Any, address: str, *, patience: Patience, tell: Tell, artifacts: Path | None = None
    ) -> None:
        self.queue, broker = parsed(address)
        self._reactor = reactor
        self._broker: Broker = cast(Broker, RabbitMQ(reactor, broker, cast(Clock, reactor)))
        host, port = broker.hosts[0]
        self._address = f"amqp://{host}:{port}/{'' if broker.vhost == '/' else broker.vhost}?queue={self.queue}"
        self._patience = patience
        self.tell = tell
        self.news = News(reactor, artifacts)
        self._events = f"atelier.bots.{uuid.uuid4().hex}"
        self._listening: asyncio.Task[None] | None = None
        self._heard_first = asyncio.Event()
        self._link: Link | None = None
        self._publishing: Channel | None = None

    @property
    def address(self) -> str:
        """The broker's URL, without its password."""
        return self._address

    @property
    def room(self) -> int | None:
        """A queue has all the room there is."""
        return None

    def session(self, name: str) -> AmqpSession:
        """A bot; the broker knows no names."""
        return AmqpSession(self)

    async def open(self) -> None:
        """Begin to hear what jobs say."""
        self._listening = asyncio.ensure_future(self._listen())
        heard = asyncio.ensure_future(self._heard_first.wait())
        try:
            await asyncio.wait([self._listening, heard], return_when=asyncio.FIRST_COMPLETED)
            if self._listening.done():
                self._listening.result()
        finally:
            heard.cancel()

    async def styles(self) -> list[str]:
        """This door does not tell."""
        return []

    async def health(self) -> Health:
        """How many messages wait: the broker says no more of who takes them."""
        return Health(jobs_waiting=await self.patiently(self._waiting, self._lost))

    async def state_of(self, job_id: str) -> str:
        """Events are news, not records."""
        return "unknown"

    async def babble(self, number: int) -> str:
        """One of BABBLES; it has to be told of as refused."""
        name, body = BABBLES[number % len(BABBLES)]
        message_id = uuid.uuid4().hex
        refused: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self.news.when_refused(message_id, refused.set_result)
        try:
            await self.publish("", self.queue, body, Properties(content_type="application/json", message_id=message_id))
            told = await within(self._reactor, COPED_WITHIN, _come(refused))
        except TimeoutError:
            return f"{name}: it was not refused within {COPED_WITHIN:g} s"
        finally:
            self.news.forget(message_id)
        return "" if told.get("code") in Code.__members__ else f"{name}: it was refused without a code"

    async def usurp(self, count: int) -> None:
        """Nobody logs in."""

    async def close(self) -> None:
        """Hear no more."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        await self.news.close()
        if self._link is not None:
            await self._link.close()

    # For sessions

    async def connect(self, purpose: str) -> Link:
        """A connection to the broker. Raises CannotConnectError."""
        try:
            return await self._broker.connect(f"bots, {purpose}")
        except LinkLost as lost:
            raise CannotConnectError(self._address, str(lost)) from None

    async def publish(self, exchange: str, routing_key: str, body: bytes, properties: Properties) -> None:
        """By the door's own connection. Raises ClientError."""

        async def published() -> None:
            if self._publishing is None or self._publishing.closed.done():
                if self._link is None or self._link.closed.done():
                    self._link = await self.connect("asking")
                self._publishing = await self._link.channel(confirming=True)
            await self._publishing.publish(exchange, routing_key, body, properties)

        await self.patiently(published, self._lost)

    async def patiently(self, work: Callable[[], Any], lost: Callable[[Exception, int], None]) -> Any:
        """Again and again, for as long as a broker may be away. Raises CannotConnectError."""
        backoff = Backoff(self._patience.first_wait, self._patience.longest_wait, lambda: MIDDLE)
        since, attempt = self._reactor.seconds(), 0
        while True:
            try:
                return await work()
            except (LinkLost, NotPublished, CannotConnectError) as error:
                if self._reactor.seconds() - since > self._patience.reconnect_for:
                    raise CannotConnectError(self._address, f"gave up: {error}") from None
                attempt += 1
                lost(error, attempt)
                await pause(self._reactor, backoff.next())

    def _lost(self, error: Exception, attempt: int) -> None:
        self.tell(str(error), attempt)

    # What jobs say

    async def _listen(self) -> None:
        """For as long as it takes. The queue of events is a durable one, which a lost connection does not empty."""
        while True:
            link = await (
                self.patiently(lambda: self.connect("hearing"), self._lost)
                if self._heard_first.is_set()
                else self.connect("hearing")
            )
            try:
                await self._hear_all(link)
            except LinkLost as lost:
                if not self._heard_first.is_set():
                    raise CannotConnectError(self._address, str(lost)) from None
                self.tell(f"no connection to {self._address}: {lost}", 1)
            finally:
                await link.close()

    async def _hear_all(self, link: Link) -> None:
        channel = await link.channel()
        await channel.declare_exchange(EVENTS, "topic")
        await channel.declare_queue(self._events, {"x-expires": KEPT})
        for routing_key in ("job.#", "message.refused"):
            await channel.bind(self._events, EVENTS, routing_key)
        deliveries = await channel.consume(self._events, prefetch=AHEAD)
        self._heard_first.set()
        while True:
            delivery = await deliveries.next()
            self.news.hear(json.loads(delivery.body))
            channel.ack(delivery.tag)

    async def _waiting(self) -> int:
        link = self._link
        if link is None or link.closed.done():
            link = self._link = await self.connect("asking")
        channel = await link.channel()
        try:
            return await channel.count(self.queue)
        finally:
            channel.close()


async def _come(future: asyncio.Future[dict[str, Any]]) -> dict[str, Any]:
    return await future


def _refused(visit: Visit, told: dict[str, Any]) -> None:
    if not visit.over.is_set():
        visit.on_error(End.REFUSED, refusal_of(told))
