"""A gateway and workers: processes of their own, one database, one broker, and jobs that a client follows through it all."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from server.events import Canceled, Progress, Succeeded, TerminalEvent
from tests.integration.eventually import eventually, until
from tests.integration.nodes import Nodes, connected, empty_database, ended_of, events_of, submitted
from tests.postgres import PostgresServer
from tests.rabbitmq import RabbitNode


@pytest.fixture
def nodes(tmp_path: Path, postgres: PostgresServer, rabbitmq: RabbitNode) -> Iterator[Nodes]:
    """An empty database and a broker without queues."""
    with empty_database(postgres):
        yield Nodes(tmp_path, postgres, f"127.0.0.1:{rabbitmq.port}")
    rabbitmq.empty()


async def test_workers_share_a_gateway_s_jobs_and_one_s_death_loses_none(
    reactor: Any, nodes: Nodes, rabbitmq: RabbitNode
) -> None:
    """Two workers share 200 jobs; one is killed; all succeed, and the gateway's client saw each one's progress to the end."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(nodes.node("gateway", "gateway"))
        first, _ = [
            await stack.enter_async_context(nodes.node(name, "worker", step=0.1, ATELIER_RABBITMQ_PREFETCH="20"))
            for name in ("first", "second")
        ]
        client = await stack.enter_async_context(connected(reactor, gateway))
        handles = await asyncio.gather(*(submitted(client, number) for number in range(200)))
        following = [asyncio.ensure_future(events_of(handle)) for handle in handles]
        await until(lambda: all(nodes.log(name).count("job.ended") >= 20 for name in ("first", "second")))
        await until(lambda: _under_way(nodes.log("first")) >= 5)
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
        assert len(ended_of(nodes.log("second"))) < 200, "there was nothing left to do"
        heard = await asyncio.gather(*following)
        assert all(isinstance(events[-1], Succeeded) for events in heard), [events[-1] for events in heard]
        for events in heard:
            numbers = [event.number for event in events]
            assert numbers == sorted(set(numbers))
            assert [event for event in events if isinstance(event, TerminalEvent)] == events[-1:]
            progress = [event.fraction for event in events if isinstance(event, Progress)]
            assert progress, "nobody told how it went"
            assert progress[-1] >= 0.8, progress
        painted = [ended_of(nodes.log(name)) for name in ("first", "second")]
        assert set().union(*painted) == {handle.job_id for handle in handles}
        assert len(set().union(*painted)) == 200
        await eventually(partial(_is_empty, rabbitmq, "atelier.jobs"))


async def test_a_cancel_reaches_a_job_wherever_it_is(reactor: Any, nodes: Nodes) -> None:
    """In the queue of jobs while there is no worker, and on the worker that paints it."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(nodes.node("gateway", "gateway"))
        client = await stack.enter_async_context(connected(reactor, gateway))
        waiting = await submitted(client, 1)
        await waiting.cancel()
        assert isinstance((await events_of(waiting))[-1], Canceled)
        await stack.enter_async_context(nodes.node("worker", "worker", step=60))
        running = await submitted(client, 2)
        await until(lambda: bool(re.search(f"job.taken_up.*{running.job_id}", nodes.log("worker"))))
        await running.cancel()
        assert isinstance((await events_of(running))[-1], Canceled)


async def test_jobs_of_a_queue_that_somebody_emptied_are_painted(
    reactor: Any, nodes: Nodes, rabbitmq: RabbitNode
) -> None:
    """The gateway notices that nobody takes them, and dispatches them again."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(nodes.node("gateway", "gateway", ATELIER_DISPATCH_AGAIN_AFTER="2"))
        client = await stack.enter_async_context(connected(reactor, gateway))
        handles = [await submitted(client, number) for number in range(3)]
        channel = rabbitmq.channel()
        await until(lambda: channel.queue_declare("atelier.jobs", passive=True).method.message_count == 3)
        channel.queue_purge("atelier.jobs")
        channel.connection.close()
        await stack.enter_async_context(nodes.node("worker", "worker"))
        for handle in handles:
            assert isinstance((await events_of(handle))[-1], Succeeded)
        await eventually(partial(_is_empty, rabbitmq, "atelier.jobs"))


async def test_a_node_that_does_everything_takes_a_gateway_s_jobs_too(reactor: Any, nodes: Nodes) -> None:
    """A client of the gateway and one of that node each have their pictures; the status says who paints."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(nodes.node("gateway", "gateway"))
        both = await stack.enter_async_context(nodes.node("both", "all"))
        through = await stack.enter_async_context(connected(reactor, gateway))
        direct = await stack.enter_async_context(connected(reactor, both))
        handles = [await submitted(through, 1), await submitted(direct, 2)]
        for handle in handles:
            assert isinstance((await events_of(handle))[-1], Succeeded)
        status = await through.status()
        assert "gateway" in status.device


async def _is_empty(node: RabbitNode, queue: str) -> bool | None:
    told = await asyncio.to_thread(
        node.ctl, "list_queues", "name", "messages_ready", "messages_unacknowledged", "--no-table-headers"
    )
    return [queue, "0", "0"] in [line.split() for line in told.splitlines()] or None


def _under_way(log: str) -> int:
    return log.count("job.taken_up") - log.count("job.ended")
