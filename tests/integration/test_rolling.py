"""An installation of several nodes is upgraded: one node after the other stops and starts anew, and nobody's job is lost."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from server.events import Succeeded, TerminalEvent
from tests.integration.eventually import until
from tests.integration.nodes import DATABASE, Node, Nodes, connected, empty_database, events_of, submitted
from tests.postgres import PostgresServer
from tests.rabbitmq import RabbitNode

JOBS = 30  # submitted before each node is stopped: four seconds and more of two workers


@pytest.fixture
def nodes(tmp_path: Path, postgres: PostgresServer, rabbitmq: RabbitNode) -> Iterator[Nodes]:
    """An empty database and a broker without queues."""
    with empty_database(postgres):
        yield Nodes(tmp_path, postgres, f"127.0.0.1:{rabbitmq.port}")
    rabbitmq.empty()


async def test_an_upgrade_node_after_node_loses_no_job(reactor: Any, nodes: Nodes, postgres: PostgresServer) -> None:
    """Workers and gateway are each stopped with SIGTERM in the middle of jobs, and started again; every job ends once."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"tcp:{probe.getsockname()[1]}:interface=127.0.0.1"
    settings: dict[str, dict[str, Any]] = {
        "first": {"role": "worker", "step": 0.1, "ATELIER_DRAIN_TIMEOUT": "0.5"},
        "gateway": {"role": "gateway", "ATELIER_TCP_LISTEN": address},
        "second": {"role": "worker", "step": 0.1, "ATELIER_DRAIN_TIMEOUT": "0.5"},
    }
    async with AsyncExitStack() as stack:

        async def start(name: str) -> Node:
            return await stack.enter_async_context(nodes.node(name, **settings[name]))

        running = {name: await start(name) for name in settings}
        client = await stack.enter_async_context(connected(reactor, running["gateway"]))
        following: list[asyncio.Future[list[Any]]] = []
        for name, node in running.items():
            handles = await asyncio.gather(*(submitted(client, number) for number in range(JOBS)))
            following += [asyncio.ensure_future(events_of(handle)) for handle in handles]
            await until(lambda name=name: settings[name]["role"] == "gateway" or _under_way(nodes.log(name)))  # type: ignore[misc]
            node.process.send_signal(signal.SIGTERM)
            await node.process.communicate()
            assert node.process.returncode == 0, nodes.log(name)
            await start(name)
        for events in await asyncio.gather(*following):
            assert isinstance(events[-1], Succeeded), events[-1]
            assert [event for event in events if isinstance(event, TerminalEvent)] == events[-1:]
        assert "job.left" in nodes.log("first") + nodes.log("second"), "no job was cut short"
        assert postgres.rows("SELECT state, count(*) FROM jobs GROUP BY state", DATABASE) == [("succeeded", 3 * JOBS)]


def _under_way(log: str) -> bool:
    return log.count("job.taken_up") > log.count("job.ended") + log.count("job.left")
