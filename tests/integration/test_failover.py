"""A broker of three nodes, of which the one that leads the queue of jobs is killed in the middle of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pika
import pytest

from server.events import Succeeded, TerminalEvent
from tests.integration.eventually import eventually, until
from tests.integration.nodes import DATABASE, SIZE, Nodes, connected, empty_database, ended_of, events_of, submitted
from tests.postgres import PostgresServer
from tests.rabbitmq import RabbitNode
from tests.rabbitmq_cluster import RabbitCluster

QUEUE = "image_generation"
BY_TCP, BY_QUEUE = 40, 20  # jobs: about six seconds of two workers


@pytest.fixture
def cluster() -> Iterator[RabbitCluster]:
    """Three nodes, of one broker."""
    cluster = RabbitCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.remove()


@pytest.fixture
def nodes(cluster: RabbitCluster, tmp_path: Path, postgres: PostgresServer) -> Iterator[Nodes]:
    """An empty database, and all hosts of the broker."""
    with empty_database(postgres):
        yield Nodes(tmp_path, postgres, cluster.hosts)


async def test_the_leader_s_death_costs_no_job_and_it_comes_back(
    reactor: Any, cluster: RabbitCluster, nodes: Nodes, postgres: PostgresServer
) -> None:
    """kill -9 of the broker's node that leads atelier.jobs: every job ends once, by TCP and by message; it joins again."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(nodes.node("gateway", "gateway"))
        for name in ("first", "second"):
            await stack.enter_async_context(nodes.node(name, "worker", step=0.05))
        client = await stack.enter_async_context(connected(reactor, gateway))
        leader = await asyncio.to_thread(cluster.leader)
        rest = [node for node in cluster.nodes if node is not leader]
        await asyncio.to_thread(_publish, rest[0], range(BY_QUEUE))
        handles = await asyncio.gather(*(submitted(client, number) for number in range(BY_TCP)))
        following = [asyncio.ensure_future(events_of(handle)) for handle in handles]
        await until(lambda: all(ended_of(nodes.log(name)) for name in ("first", "second")))
        leader.stop()
        assert _live(postgres) > 0, "there was nothing left to do"

        await asyncio.to_thread(cluster.until_online, rest)
        for events in await asyncio.gather(*following):
            assert isinstance(events[-1], Succeeded), events[-1]
            assert [event for event in events if isinstance(event, TerminalEvent)] == events[-1:]
        await until(lambda: _live(postgres) == 0)
        assert _states(postgres) == [("succeeded", BY_TCP + BY_QUEUE)]
        for queue in ("atelier.jobs", QUEUE, f"{QUEUE}.dead"):
            await eventually(partial(_is_empty, cluster, queue))

        await asyncio.to_thread(leader.start)
        await asyncio.to_thread(cluster.until_online, cluster.nodes)
        assert isinstance((await events_of(await submitted(client, 99)))[-1], Succeeded)
        await asyncio.to_thread(_publish, leader, [99])
        await until(lambda: _states(postgres) == [("succeeded", BY_TCP + BY_QUEUE + 2)])


def _publish(node: RabbitNode, numbers: Any) -> None:
    """As a backend does."""
    connection = node.connect()
    channel = connection.channel()
    channel.queue_declare(QUEUE, durable=True)
    channel.confirm_delivery()
    for number in numbers:
        message = {"type": "atelier.submit", "idempotency_key": f"order-{number}", "prompt": "a red star",
                   "width": SIZE, "height": SIZE}  # fmt: skip
        properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")
        channel.basic_publish("", QUEUE, json.dumps(message).encode(), properties, mandatory=True)
    connection.close()


def _states(postgres: PostgresServer) -> list[tuple[Any, ...]]:
    return postgres.rows("SELECT state, count(*) FROM jobs GROUP BY state", DATABASE)


def _live(postgres: PostgresServer) -> int:
    return int(postgres.rows("SELECT count(*) FROM jobs WHERE completed_at IS NULL", DATABASE)[0][0])


async def _is_empty(cluster: RabbitCluster, queue: str) -> bool | None:
    return await asyncio.to_thread(cluster.count, queue) == (0, 0) or None
