"""Connections, against a real broker: what is delivered and confirmed, and every way of losing one."""

from __future__ import annotations

import asyncio
import struct
from contextlib import suppress
from typing import Any

import pika
import pytest
from pydantic import SecretStr
from twisted.internet.task import Clock

from server.doors.amqp.broker import Clash, LinkLost, NotPublished, Properties, Publication, Unroutable
from server.doors.amqp.connection import CONNECT_WITHIN, RabbitMQ
from server.doors.amqp.pika_messages import PUBLICATION
from server.doors.amqp.pika_protocol import GRACE
from tests.rabbitmq import PASSWORD, RabbitNode
from tests.server.doors.amqp.conftest import address_of

FULL = Properties(
    content_type="application/json",
    content_encoding="utf-8",
    headers={"x-tries": 3, "x-who": "ä", "x-list": [1, None, {"deep": True}]},
    priority=4,
    correlation_id="c",
    reply_to="answers",
    message_id="m",
    timestamp=1_700_000_000,
    type="image_generation",
    app_id="shop",
)


async def test_what_is_published_is_delivered_once_and_gone_when_it_is_acknowledged(
    broker: RabbitMQ, queue: str
) -> None:
    """A message comes with its body and properties, and an acknowledged one does not come again."""
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    assert await channel.declare_queue(queue) == queue
    await channel.publish("", queue, b"\x00body", FULL)
    delivery = await (await channel.consume(queue, prefetch=1)).next()
    assert (delivery.body, delivery.exchange, delivery.routing_key) == (b"\x00body", "", queue)
    assert not delivery.redelivered
    headers = dict(delivery.properties.headers)
    assert headers.pop(PUBLICATION) == 1
    assert headers == FULL.headers
    assert delivery.properties.message_id == "m"
    channel.ack(delivery.tag)
    channel.close()
    await asyncio.wait([channel.closed])
    looking = await link.channel()
    assert await looking.get(queue) is None
    await link.close()
    assert link.closed.result() == "200 Normal shutdown"


async def test_no_more_is_delivered_than_may_be_unacknowledged(broker: RabbitMQ, queue: str) -> None:
    """With a prefetch of two, the third message comes when one of the two is acknowledged; a cancelled consumer gets none."""
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue)
    for number in range(4):
        await channel.publish("", queue, bytes([number]), Properties())
    deliveries = await channel.consume(queue, prefetch=2, tag="mine")
    first, second = await deliveries.next(), await deliveries.next()
    third = asyncio.ensure_future(deliveries.next())
    await channel.publish("", queue, b"a round trip", Properties())
    assert not third.done()
    channel.ack(first.tag)
    assert (await third).body == b"\x02"
    await channel.cancel("mine")
    channel.ack(second.tag)
    with pytest.raises(LinkLost):
        await deliveries.next()
    got = await (await link.channel()).get(queue)
    assert got is not None
    assert (got[0].body, got[1]) == (b"\x03", 1)
    assert await (await link.channel()).purge(queue) == 1
    await link.close()


async def test_exactly_the_messages_without_a_queue_are_unroutable(broker: RabbitMQ, queue: str) -> None:
    """Of many published at once, those that no queue takes raise Unroutable, and no other."""
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue)
    keys = [queue if number % 3 else f"{queue}-missing" for number in range(60)]
    outcomes = await asyncio.gather(
        *(channel.publish("", key, b"x", Properties()) for key in keys), return_exceptions=True
    )
    assert [isinstance(outcome, Unroutable) for outcome in outcomes] == [key != queue for key in keys]
    assert [outcome for outcome in outcomes if outcome is not None and not isinstance(outcome, Unroutable)] == []
    await link.close()


async def test_of_messages_published_together_the_unroutable_ones_are_told(broker: RabbitMQ, queue: str) -> None:
    """By their places; what need not be taken by anybody is not among them, and all come in their order."""
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue)
    quiet = Properties(mandatory=False)
    messages = [
        Publication("", queue if number % 3 else f"{queue}-missing", bytes([number]), quiet if number % 2 else FULL)
        for number in range(60)
    ]
    rounds = await asyncio.gather(channel.publish_all(messages), channel.publish_all(messages[30:]))
    assert [*rounds] == [frozenset(range(0, 60, 6)), frozenset(range(0, 30, 6))]
    deliveries = await channel.consume(queue, prefetch=100)
    routed = [message.body for message in (*messages, *messages[30:]) if message.routing_key == queue]
    came = [await deliveries.next() for _ in routed]
    assert [delivery.body for delivery in came] == routed
    assert {tuple(sorted(delivery.properties.headers)) for delivery in came} == {
        (),
        tuple(sorted({*FULL.headers, PUBLICATION})),
    }
    await link.close()


async def test_a_large_body_comes_whole_among_small_ones(broker: RabbitMQ, queue: str) -> None:
    """In many frames, and in its place."""
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue)
    bodies = [b"first", bytes(range(256)) * 2000, b"", b"last"]
    deliveries = await channel.consume(queue, prefetch=10)
    await channel.publish_all([Publication("", queue, body, Properties()) for body in bodies])
    assert [(await deliveries.next()).body for _ in bodies] == bodies
    await link.close()


async def test_nothing_is_published_on_a_closed_channel(broker: RabbitMQ, queue: str) -> None:
    """To publish there, or under a name that is too long, raises LinkLost; the latter costs the channel nothing."""
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue)
    with pytest.raises(LinkLost):
        await channel.publish("", "q" * 256, b"x", Properties())
    await channel.publish("", queue, b"x", Properties())
    channel.close()
    with pytest.raises(LinkLost):
        await channel.publish("", queue, b"x", Properties())
    await asyncio.wait([channel.closed])
    with pytest.raises(LinkLost):
        await channel.publish("", queue, b"x", Properties())
    await link.close()


async def test_a_full_queue_refuses(broker: RabbitMQ, queue: str) -> None:
    """A message that the broker refuses is not published."""
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue, {"x-max-length": 1, "x-overflow": "reject-publish"})
    await channel.publish("", queue, b"1", Properties())
    with pytest.raises(NotPublished, match="refused"):
        await channel.publish("", queue, b"2", Properties())
    await link.close()


async def test_an_exchange_carries_to_bound_queues(broker: RabbitMQ, queue: str, rabbitmq: RabbitNode) -> None:
    """A queue hears of a topic that it is bound to, and no more when it is unbound."""
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_exchange(queue, "topic")
    await channel.declare_exchange(queue, "topic", passive=True)
    mine = await channel.declare_queue("", durable=False, exclusive=True, auto_delete=True)
    await channel.bind(mine, queue, "job.7.*")
    await channel.publish(queue, "job.7.progress", b"seven", Properties())
    with pytest.raises(Unroutable):
        await channel.publish(queue, "job.8.progress", b"eight", Properties())
    assert (await (await channel.consume(mine, prefetch=10)).next()).body == b"seven"
    await channel.unbind(mine, queue, "job.7.*")
    with pytest.raises(Unroutable):
        await channel.publish(queue, "job.7.progress", b"seven", Properties())
    await link.close()
    connection = rabbitmq.connect()
    connection.channel().exchange_delete(queue)
    connection.close()


async def test_a_clash_closes_the_channel_and_nothing_else(broker: RabbitMQ, queue: str) -> None:
    """To declare a queue that stands with other arguments raises Clash; the connection goes on."""
    link = await broker.connect("testing")
    await (await link.channel()).declare_queue(queue, {"x-max-length": 7})
    channel = await link.channel()
    with pytest.raises(Clash, match="406 PRECONDITION_FAILED"):
        await channel.declare_queue(queue)
    with pytest.raises(LinkLost, match="406"):
        await channel.declare_queue(queue, passive=True)
    channel.ack(1)
    channel.close()
    assert await (await link.channel()).declare_queue(queue, passive=True) == queue
    await link.close()


async def test_a_deleted_queue_ends_its_consumer(broker: RabbitMQ, queue: str, rabbitmq: RabbitNode) -> None:
    """Whoever waits for the next message of a queue that is deleted hears that it is gone."""
    link = await broker.connect("testing")
    channel = await link.channel()
    await channel.declare_queue(queue)
    deliveries = await channel.consume(queue, prefetch=1)
    waiting = asyncio.ensure_future(deliveries.next())
    await asyncio.to_thread(rabbitmq.ctl, "delete_queue", queue)
    with pytest.raises(LinkLost, match="queue is gone"):
        await waiting
    await link.close()


async def test_a_wrong_password_is_told_in_the_broker_s_words(rabbitmq: RabbitNode, reactor: Any) -> None:
    """A login that is refused says so, and shows no password."""
    wrong = RabbitMQ(reactor, address_of(rabbitmq, password=SecretStr("not-" + PASSWORD)), reactor)
    with pytest.raises(LinkLost, match="ACCESS_REFUSED") as caught:
        await wrong.connect("testing")
    assert PASSWORD not in str(caught.value)
    assert PASSWORD not in repr(address_of(rabbitmq))


async def test_a_virtual_host_that_is_not_there_is_told(rabbitmq: RabbitNode, reactor: Any) -> None:
    """A refusal after the login says why, too."""
    elsewhere = RabbitMQ(reactor, address_of(rabbitmq, vhost="nowhere"), reactor)
    with pytest.raises(LinkLost, match="vhost nowhere not found"):
        await elsewhere.connect("testing")


async def test_nobody_there_is_told(rabbitmq: RabbitNode, reactor: Any) -> None:
    """A port on which nobody listens, and a peer that hangs up at once, raise LinkLost."""
    hangs_up = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = hangs_up.sockets[0].getsockname()[1]
    with pytest.raises(LinkLost):
        await RabbitMQ(reactor, address_of(rabbitmq, port), reactor).connect("testing")
    hangs_up.close()
    await hangs_up.wait_closed()
    with pytest.raises(LinkLost, match="refused"):
        await RabbitMQ(reactor, address_of(rabbitmq, port), reactor).connect("testing")


async def test_of_several_hosts_one_that_answers_will_do(rabbitmq: RabbitNode, reactor: Any) -> None:
    """Those before it in the list are tried first; where none answers, each one's reason is told, always in the same words."""
    hangs_up = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = hangs_up.sockets[0].getsockname()[1]
    broker = RabbitMQ(reactor, address_of(rabbitmq, port, port, rabbitmq.port), reactor)
    for _ in range(3):
        link = await broker.connect("testing")
        await (await link.channel()).declare_queue("", durable=False, exclusive=True)
        await link.close()
    nobody = RabbitMQ(reactor, address_of(rabbitmq, port, port), reactor)
    told = set()
    for _ in range(2):
        with pytest.raises(LinkLost) as lost:
            await nobody.connect("testing")
        told.add(str(lost.value))
    assert len(told) == 1
    assert told.pop().count(f"127.0.0.1:{port}: ") == 2
    hangs_up.close()
    await hangs_up.wait_closed()


async def test_each_connection_begins_with_another_host(reactor: Any, rabbitmq: RabbitNode) -> None:
    """So that one that was just lost is not asked first again."""
    asked: list[int] = []

    def hears(number: int) -> Any:
        def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.append(number)
            writer.close()

        return refuse

    servers = [await asyncio.start_server(hears(number), "127.0.0.1", 0) for number in range(3)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    broker = RabbitMQ(reactor, address_of(rabbitmq, *ports), reactor)
    for _ in range(2):
        with pytest.raises(LinkLost):
            await broker.connect("testing")
    assert asked == [0, 1, 2, 1, 2, 0]
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_a_peer_that_says_nothing_is_given_up(rabbitmq: RabbitNode, reactor: Any) -> None:
    """A connection that is taken and never greeted is cut off after CONNECT_WITHIN."""
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionResetError):
            await reader.read()
        writer.close()
        ended.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    clock: Any = Clock()
    timed = asyncio.Event()
    call_later = clock.callLater

    def noted(*call: Any) -> Any:
        timed.set()
        return call_later(*call)

    clock.callLater = noted
    broker = RabbitMQ(reactor, address_of(rabbitmq, server.sockets[0].getsockname()[1]), clock)
    connecting = asyncio.ensure_future(broker.connect("testing"))
    await asyncio.wait_for(timed.wait(), 60)
    clock.advance(CONNECT_WITHIN)
    with pytest.raises(LinkLost):
        await connecting
    await ended.wait()
    server.close()
    await server.wait_closed()


async def test_a_killed_broker_ends_everything(reactor: Any, rabbitmq: RabbitNode, queue: str) -> None:
    """When the broker is killed, link, channel, consumer and an unconfirmed publish all say so; a restarted one is reached."""
    broker = RabbitMQ(reactor, address_of(rabbitmq), reactor)
    link = await broker.connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue)
    waiting = asyncio.ensure_future((await channel.consume(queue, prefetch=1)).next())
    rabbitmq.freeze()
    publishing = asyncio.ensure_future(channel.publish("", queue, b"x", Properties()))
    await asyncio.sleep(0)
    try:
        rabbitmq.stop()
        await asyncio.wait([link.closed, channel.closed])
        for task in (waiting, publishing):
            with pytest.raises(LinkLost):
                await task
        with pytest.raises(LinkLost):
            await link.channel()
        await link.close()
    finally:
        await asyncio.to_thread(rabbitmq.start)
    await (await broker.connect("testing")).close()


async def test_a_silent_broker_is_given_up_though_bytes_wait_to_be_sent(
    reactor: Any, rabbitmq: RabbitNode, queue: str
) -> None:
    """A broker that neither reads nor speaks is left after its heartbeats and a grace, with all that it did not take."""
    clock: Any = Clock()
    link = await RabbitMQ(reactor, address_of(rabbitmq, heartbeat=10), clock).connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue)
    rabbitmq.freeze()
    try:
        publishing = asyncio.ensure_future(channel.publish("", queue, bytes(16 << 20), Properties()))
        await asyncio.sleep(0)
        for _ in range(30):
            clock.advance(1)
        assert not link.closed.done()
        clock.advance(GRACE)
        await asyncio.wait([link.closed])
        with pytest.raises(LinkLost):
            await publishing
    finally:
        rabbitmq.thaw()


async def test_a_broker_in_alarm_is_left_after_a_while(reactor: Any, rabbitmq: RabbitNode, queue: str) -> None:
    """A publish that a memory alarm holds up ends with the connection, when blocked_timeout is over."""
    clock: Any = Clock()
    link = await RabbitMQ(reactor, address_of(rabbitmq, blocked_timeout=20.0, heartbeat=600), clock).connect("testing")
    channel = await link.channel(confirming=True)
    await channel.declare_queue(queue)
    blocked = asyncio.get_running_loop().create_future()
    link._protocol._impl.add_on_connection_blocked_callback(lambda *_: blocked.set_result(None))
    await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0")
    try:
        publishing = asyncio.ensure_future(channel.publish("", queue, b"x", Properties()))
        await blocked
        assert not publishing.done()
        clock.advance(20)
        with pytest.raises(LinkLost):
            await publishing
        clock.advance(GRACE)
        await asyncio.wait([link.closed])
    finally:
        await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.4")


async def test_a_delivery_held_too_long_costs_the_channel_alone(
    broker: RabbitMQ, queue: str, rabbitmq: RabbitNode
) -> None:
    """The broker's consumer_timeout closes the channel; a late acknowledgement does nothing, and the message comes again."""
    await asyncio.to_thread(rabbitmq.ctl, "eval", "application:set_env(rabbit, consumer_timeout, 500).")
    try:
        link = await broker.connect("testing")
        channel = await link.channel(confirming=True)
        await channel.declare_queue(queue)
        await channel.publish("", queue, b"slow", Properties())
        delivery = await (await channel.consume(queue, prefetch=1)).next()
        await asyncio.wait([channel.closed])
        assert "406" in channel.closed.result()
        channel.ack(delivery.tag)
        assert not link.closed.done()
    finally:
        await asyncio.to_thread(rabbitmq.ctl, "eval", "application:set_env(rabbit, consumer_timeout, 1800000).")
    again = await (await (await link.channel()).consume(queue, prefetch=1)).next()
    assert (again.body, again.redelivered) == (b"slow", True)
    await link.close()


class Milliseconds(pika.BasicProperties):  # type: ignore[misc]  # pika is not typed
    """Properties with a header field that pika cannot read, as programs in JavaScript send it: a time in milliseconds."""

    def encode(self) -> list[bytes]:
        """Flags that say: headers; then the table."""
        field = b"\x02at" + b"T" + struct.pack(">Q", 1_700_000_000_000)
        return [struct.pack(">H", self.FLAG_HEADERS), struct.pack(">I", len(field)), field]


async def test_a_header_that_cannot_be_read_costs_its_message_the_properties_alone(
    broker: RabbitMQ, queue: str, rabbitmq: RabbitNode
) -> None:
    """A message whose headers pika cannot decode is delivered without them, and those after it as they are."""
    connection = rabbitmq.connect()
    publishing = connection.channel()
    publishing.queue_declare(queue, durable=True)
    publishing.basic_publish("", queue, b"strange", Milliseconds())
    publishing.basic_publish("", queue, b"usual", pika.BasicProperties(message_id="m"))
    connection.close()
    link = await broker.connect("testing")
    deliveries = await (await link.channel()).consume(queue, prefetch=10)
    first, second = await deliveries.next(), await deliveries.next()
    assert (first.body, first.properties) == (b"strange", Properties())
    assert (second.body, second.properties.message_id) == (b"usual", "m")
    await link.close()
