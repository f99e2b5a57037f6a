"""A connection that comes back, and publishing over it, by a clock that the tests move."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from twisted.internet.task import Clock

from server.doors.amqp.broker import Link, LinkLost, NotPublished, Properties, Refused, Unroutable
from server.doors.amqp.lasting import FIRST_PAUSE, LONGEST_PAUSE, STEADY_AFTER, Backoff, Lasting
from server.doors.amqp.publisher import MOST_AT_ONCE, PUBLISH_WITHIN, REFUSED_FOR, Publisher
from tests.server.doors.amqp.fake_broker import FakeBroker
from tests.server.fakes import settle


def no_luck() -> float:
    """The longest pause that chance allows."""
    return 1.0


class Used:
    """What a link is used for: until it is lost, or `error` is raised."""

    def __init__(self) -> None:
        self.links = 0
        self.error: Exception | None = None

    async def __call__(self, link: Link) -> None:
        self.links += 1
        if self.error is not None:
            raise self.error
        await asyncio.wait([link.closed])


def test_pauses_double_up_to_a_limit_with_half_of_each_left_to_chance() -> None:
    """From FIRST_PAUSE to LONGEST_PAUSE; with the best of luck half as long."""
    unlucky, lucky = Backoff(no_luck), Backoff(lambda: 0.0)
    pauses = [unlucky.next() for _ in range(9)]
    assert pauses[:4] == [FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4, FIRST_PAUSE * 8]
    assert pauses[-1] == LONGEST_PAUSE
    assert [lucky.next() for _ in range(9)] == [pause / 2 for pause in pauses]
    unlucky.reset()
    assert unlucky.next() == FIRST_PAUSE


async def test_a_lost_link_comes_back_after_a_pause_that_grows_while_the_broker_is_away() -> None:
    """Each try is made when its pause is over, and a link that lasted makes the pauses short again."""
    broker, clock, used = FakeBroker(), _clock(), Used()
    lasting = Lasting(broker, "testing", used, clock=clock, chance=no_luck)
    lasting.start()
    await settle()
    assert (used.links, lasting.connected) == (1, True)
    broker.away = "no route"
    broker.fall()
    await settle()
    assert not lasting.connected
    for tries, pause in enumerate((FIRST_PAUSE, FIRST_PAUSE * 2, FIRST_PAUSE * 4), start=1):
        await _pass(clock, pause - 0.01)
        assert len(broker.asked) == tries
        await _pass(clock, 0.01)
        assert len(broker.asked) == tries + 1
    broker.away = ""
    await _pass(clock, FIRST_PAUSE * 8)
    assert used.links == 2
    await _pass(clock, STEADY_AFTER)
    broker.fall()
    await settle()
    await _pass(clock, FIRST_PAUSE)
    assert used.links == 3
    await lasting.stop()
    assert not lasting.connected


@pytest.mark.parametrize("error", [LinkLost("the channel was closed"), RuntimeError("a mistake of ours")])
async def test_a_link_whose_use_fails_is_closed_and_another_made(error: Exception) -> None:
    """Whatever the use of a link raises, the next one is tried."""
    broker, clock, used = FakeBroker(), _clock(), Used()
    used.error = error
    lasting = Lasting(broker, "testing", used, clock=clock, chance=no_luck)
    lasting.start()
    await settle()
    assert broker.links == []
    used.error = None
    await _pass(clock, FIRST_PAUSE)
    assert (used.links, len(broker.links)) == (2, 1)
    await lasting.stop()
    await lasting.stop()
    assert broker.links == []


async def test_whatever_connecting_raises_it_is_tried_again() -> None:
    """A mistake in a library is no reason to stay away for ever."""
    broker, clock, used = FakeBroker(), _clock(), Used()
    connect = broker.connect

    async def broken(purpose: str) -> Any:
        raise AttributeError("a mistake")

    broker.connect = broken  # type: ignore[method-assign]
    lasting = Lasting(broker, "testing", used, clock=clock, chance=no_luck)
    lasting.start()
    await settle()
    broker.connect = connect  # type: ignore[method-assign]
    await _pass(clock, FIRST_PAUSE)
    assert used.links == 1
    await lasting.stop()


async def test_a_stop_ends_the_pause_at_once() -> None:
    """Nobody waits for a broker that is away when the server stops."""
    broker, clock = FakeBroker(), _clock()
    broker.away = "no route"
    lasting = Lasting(broker, "testing", Used(), clock=clock, chance=no_luck)
    await lasting.stop()
    lasting.start()
    await lasting.stop()
    assert clock.getDelayedCalls() == []


async def test_a_publish_waits_for_the_broker_and_for_its_word() -> None:
    """It returns when the broker has the message, wherever the connection was when it was asked."""
    broker, clock = FakeBroker(), _clock()
    broker.stand("jobs")
    broker.away = "no route"
    publisher = Publisher(broker, clock=clock, chance=no_luck)
    publisher.start()
    publishing = asyncio.ensure_future(publisher.publish("", "jobs", b"1", Properties()))
    await settle()
    broker.away = ""
    broker.confirming.clear()
    await _pass(clock, FIRST_PAUSE)
    assert not publishing.done()
    broker.confirming.set()
    await publishing
    assert broker.bodies("jobs") == [b"1"]
    with pytest.raises(Unroutable):
        await publisher.publish("", "nowhere", b"2", Properties())
    await publisher.stop()
    with pytest.raises(NotPublished, match="stops"):
        await publisher.publish("", "jobs", b"3", Properties())
    assert clock.getDelayedCalls() == []


async def test_a_publish_that_nobody_confirms_ends() -> None:
    """By a lost connection at once, by silence after PUBLISH_WITHIN; a caller that is cancelled hears nothing else."""
    broker, clock = FakeBroker(), _clock()
    broker.stand("jobs")
    broker.confirming.clear()
    publisher = Publisher(broker, clock=clock, chance=no_luck)
    publisher.start()
    await settle()
    lost = asyncio.ensure_future(publisher.publish("", "jobs", b"1", Properties()))
    await settle()
    broker.fall("no heartbeat")
    with pytest.raises(NotPublished, match="no heartbeat"):
        await lost
    late = asyncio.ensure_future(publisher.publish("", "jobs", b"1", Properties()))
    given_up = asyncio.ensure_future(publisher.publish("", "jobs", b"1", Properties()))
    await _pass(clock, FIRST_PAUSE)
    given_up.cancel()
    await settle()
    await _pass(clock, PUBLISH_WITHIN)
    with pytest.raises(NotPublished, match="not confirmed"):
        await late
    with pytest.raises(asyncio.CancelledError):
        await given_up
    await publisher.stop()


async def test_a_node_that_goes_on_refusing_is_left() -> None:
    """After REFUSED_FOR of it a new connection is made; what other queues take meanwhile is no reason to stay."""
    broker, clock = FakeBroker(), _clock()
    for queue in ("jobs", "other"):
        broker.stand(queue)
    broker.refusing.add("jobs")
    publisher = Publisher(broker, clock=clock, chance=no_luck)
    publisher.start()
    await settle()
    for _ in range(2):
        with pytest.raises(Refused):
            await publisher.publish("", "jobs", b"1", Properties())
        await publisher.publish("", "other", b"2", Properties())
        await _pass(clock, REFUSED_FOR / 2)
    assert len(broker.asked) == 1
    with pytest.raises(Refused):
        await publisher.publish("", "jobs", b"1", Properties())
    await settle()
    broker.refusing.clear()
    await _pass(clock, 2 * FIRST_PAUSE)
    assert len(broker.asked) == 2
    await publisher.publish("", "jobs", b"1", Properties())
    assert broker.bodies("jobs") == [b"1"]
    await publisher.stop()


async def test_no_more_than_so_many_wait_for_their_confirmation() -> None:
    """A broker that confirms nothing holds MOST_AT_ONCE messages; the others wait with their callers, and all arrive."""
    broker, clock = FakeBroker(), _clock()
    broker.stand("jobs")
    broker.confirming.clear()
    publisher = Publisher(broker, clock=clock, chance=no_luck)
    publisher.start()
    await settle()
    publishing = [
        asyncio.ensure_future(publisher.publish("", "jobs", bytes([number]), Properties()))
        for number in range(MOST_AT_ONCE + 50)
    ]
    await settle()
    assert not any(one.done() for one in publishing)
    broker.confirming.set()
    await asyncio.gather(*publishing)
    assert sorted(broker.bodies("jobs")) == [bytes([number]) for number in range(MOST_AT_ONCE + 50)]
    await publisher.stop()


def _clock() -> Any:
    return Clock()


async def _pass(clock: Any, seconds: float) -> None:
    clock.advance(seconds)
    await settle()
