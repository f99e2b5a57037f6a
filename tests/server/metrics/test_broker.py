"""The broker as it is counted: the same broker for whoever uses it."""

from __future__ import annotations

import pytest

from server.doors.amqp.broker import LinkLost, NotPublished, Properties, Unroutable
from server.doors.amqp.dead_letters import CODE
from server.metrics.broker import BrokerMeter
from tests.server.doors.amqp.fake_broker import FakeBroker
from tests.server.fakes import settle
from tests.server.metrics.scrape import now, some_metrics


class Scene:
    """A counted broker with a queue."""

    def __init__(self) -> None:
        self.metrics = some_metrics()
        self.inner = FakeBroker()
        self.broker = BrokerMeter(self.metrics).watch(self.inner)
        self.inner.stand("image_generation")

    def found(self, name: str) -> float:
        """A series."""
        return now(self.metrics)[f"atelier_amqp_{name}"]


async def test_connections_are_counted_with_those_that_failed() -> None:
    """And are down again when they are lost."""
    scene = Scene()
    scene.inner.away = "no route"
    with pytest.raises(LinkLost):
        await scene.broker.connect("consuming")
    assert scene.found('connected{purpose="consuming"}') == 0
    scene.inner.away = ""
    await scene.broker.connect("consuming")
    await scene.broker.connect("a purpose of its own")
    assert scene.found('connects_total{outcome="failed",purpose="consuming"}') == 1
    assert scene.found('connects_total{outcome="connected",purpose="consuming"}') == 1
    assert scene.found('connected{purpose="consuming"}') == 1
    assert scene.found('connected{purpose="other"}') == 1
    scene.inner.fall()
    await settle()
    assert scene.found('connected{purpose="consuming"}') == 0


async def test_deliveries_are_held_until_they_are_acknowledged_or_the_channel_goes() -> None:
    """One that comes again is told apart."""
    scene = Scene()
    for body in (b"one", b"two", b"three"):
        scene.inner.put("image_generation", body)
    link = await scene.broker.connect("consuming")
    channel = await link.channel()
    deliveries = await channel.consume("image_generation", prefetch=10)
    tags = [(await deliveries.next()).tag for _ in range(3)]
    channel.ack(tags[0])
    assert scene.found('deliveries_total{purpose="consuming",redelivered="no"}') == 3
    assert (scene.found('acks_total{purpose="consuming"}'), scene.found('unacked{purpose="consuming"}')) == (1, 2)
    scene.inner.fall()
    await settle()
    channel.ack(tags[1])
    assert (scene.found('acks_total{purpose="consuming"}'), scene.found('unacked{purpose="consuming"}')) == (1, 0)
    with pytest.raises(LinkLost):
        await deliveries.next()
    channel = await (await scene.broker.connect("consuming")).channel()
    deliveries = await channel.consume("image_generation", prefetch=10)
    assert (await deliveries.next()).redelivered
    assert scene.found('deliveries_total{purpose="consuming",redelivered="yes"}') == 1


async def test_what_is_published_is_told_by_what_it_is() -> None:
    """Confirmed or not; a dead letter by the code in its headers, which is one of ours or other."""
    scene = Scene()
    for queue in ("image_generation.dead", "image_generation.delay.30000", "atelier.jobs", "events"):
        scene.inner.stand(queue)
    scene.inner.bindings.add(("atelier.events", "job.#", "events"))
    channel = await (await scene.broker.connect("publishing")).channel(confirming=True)
    for code in ("INVALID_PARAMETER", "SECRET words"):
        await channel.publish("", "image_generation.dead", b"{}", Properties(headers={CODE: code}))
    await channel.publish("", "image_generation.delay.30000", b"{}", Properties())
    await channel.publish("", "atelier.jobs", b"{}", Properties())
    await channel.publish("atelier.events", "job.a.progress", b"{}", Properties())
    with pytest.raises(Unroutable):
        await channel.publish("", "nowhere", b"{}", Properties())
    scene.inner.refusing.add("image_generation.dead")
    with pytest.raises(NotPublished):
        await channel.publish("", "image_generation.dead", b"{}", Properties(headers={CODE: "UNAVAILABLE"}))
    kinds = ("dead_letter", "retry", "job", "event")
    assert [scene.found(f'published_total{{kind="{kind}",outcome="confirmed"}}') for kind in kinds] == [2, 1, 1, 1]
    assert scene.found('published_total{kind="dead_letter",outcome="failed"}') == 1
    assert scene.found('published_total{kind="other",outcome="failed"}') == 1
    assert scene.found('dead_letters_total{code="INVALID_PARAMETER"}') == 1
    assert scene.found('dead_letters_total{code="other"}') == 1
    assert scene.found('dead_letters_total{code="UNAVAILABLE"}') == 0


async def test_everything_else_is_the_broker_s_own() -> None:
    """Queues, bindings, single messages, and hanging up."""
    scene = Scene()
    link = await scene.broker.connect("hearing")
    channel = await link.channel()
    name = await channel.declare_queue("", exclusive=True)
    await channel.declare_exchange("atelier.events", "topic")
    await channel.bind(name, "atelier.events", "#")
    assert ("atelier.events", "#", name) in scene.inner.bindings
    await channel.unbind(name, "atelier.events", "#")
    assert not scene.inner.bindings
    for body in (b"one", b"two"):
        scene.inner.put("image_generation", body)
    taken = await channel.get("image_generation")
    assert taken is not None
    assert (taken[0].body, taken[1]) == (b"one", 1)
    assert await channel.count("image_generation") == 1
    assert await channel.purge("image_generation") == 1
    await channel.consume(name, prefetch=1, tag="t")
    await channel.cancel("t")
    channel.close()
    assert channel.closed.done()
    await link.close()
    assert link.closed.result() == "closed"
