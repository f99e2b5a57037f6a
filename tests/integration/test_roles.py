"""A gateway and workers: processes of their own, one database, one broker, and jobs that a client follows through it all."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bot.client import Client
from bot.jobs import JobHandle
from server.events import Canceled, Progress, Succeeded
from tests.integration.eventually import eventually, until
from tests.integration.served import ROOT
from tests.postgres import PostgresServer
from tests.rabbitmq import PASSWORD, USER, RabbitNode

SIZE = 64


class Cluster:
    """Starts nodes that share a database and a broker, each with a folder of its own and one for all pictures."""

    def __init__(self, folder: Path, postgres: PostgresServer, node: RabbitNode) -> None:
        self._folder = folder
        self._node = node
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        self._environment = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "ATELIER_TCP_LISTEN": "tcp:0:interface=127.0.0.1",
            "ATELIER_STORAGE_URL": f"file://{folder}/pictures",
            "ATELIER_JOB_LEASE": "3",
            "ATELIER_LOG_LEVEL": "INFO",
            "DATABASE_URL": postgres.url("roles"),
            "RABBITMQ_HOST": "127.0.0.1",
            "RABBITMQ_PORT": str(node.port),
            "RABBITMQ_USER": USER,
            "RABBITMQ_PASS": PASSWORD,
        }

    @asynccontextmanager
    async def node(self, name: str, role: str, step: float = 0.05, **settings: str) -> AsyncIterator[Node]:
        """A node, once it says that it works; killed at the end if it still runs."""
        environment = {
            **self._environment, "ATELIER_ROLE": role, "ATELIER_DATA_DIR": str(self._folder / name), **settings,
        }  # fmt: skip
        with (self._folder / f"{name}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.integration.quick_node", str(step),
                cwd=self._folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        try:
            assert process.stdout is not None
            line = (await process.stdout.readline()).decode()
            assert line, (self._folder / f"{name}.log").read_text()
            yield Node(process, line.strip().rpartition(" ")[2])
        finally:
            if process.returncode is None:
                process.kill()
            await process.communicate()

    def log(self, name: str) -> str:
        """What a node said."""
        return (self._folder / f"{name}.log").read_text()


class Node:
    """One of its processes."""

    def __init__(self, process: asyncio.subprocess.Process, address: str) -> None:
        self.process = process
        self.address = address


@pytest.fixture
def cluster(tmp_path: Path, postgres: PostgresServer, rabbitmq: RabbitNode) -> Any:
    """An empty database and a broker without queues."""
    postgres.sql("DROP DATABASE IF EXISTS roles WITH (FORCE)")
    postgres.sql("CREATE DATABASE roles")
    yield Cluster(tmp_path, postgres, rabbitmq)
    postgres.sql("DROP DATABASE roles WITH (FORCE)")
    rabbitmq.empty()


@asynccontextmanager
async def connected(reactor: Any, node: Node) -> AsyncIterator[Client]:
    """A client of a gateway."""
    client = Client(reactor, node.address)
    await client.connect()
    try:
        yield client
    finally:
        await client.close()


async def submitted(client: Client, number: int, prompt: str = "picture") -> JobHandle:
    """A job that is followed."""
    return await client.submit(f"{prompt} {number}", seed=number, width=SIZE, height=SIZE, progress=True)


async def test_workers_share_a_gateway_s_jobs_and_one_s_death_loses_none(
    reactor: Any, cluster: Cluster, rabbitmq: RabbitNode
) -> None:
    """Two workers take the jobs; one is killed; all succeed, and the gateway's client saw each one's progress to the end."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(cluster.node("gateway", "gateway"))
        first = await stack.enter_async_context(cluster.node("first", "worker", step=0.3))
        await stack.enter_async_context(cluster.node("second", "worker", step=0.1))
        client = await stack.enter_async_context(connected(reactor, gateway))
        handles = await asyncio.gather(*(submitted(client, number) for number in range(40)))
        ends = [asyncio.ensure_future(_events(handle)) for handle in handles]
        await until(lambda: cluster.log("first").count("job.taken_up") >= 5)
        await until(lambda: "job.ended" in cluster.log("second"))
        first.process.send_signal(signal.SIGKILL)
        heard = await asyncio.gather(*ends)
        assert all(isinstance(events[-1], Succeeded) for events in heard), [events[-1] for events in heard]
        assert all(any(isinstance(event, Progress) for event in events) for events in heard)
        for events in heard:
            numbers = [event.number for event in events]
            assert numbers == sorted(set(numbers))
        assert len({handle.job_id for handle in handles}) == 40
        await eventually(partial(_is_empty, rabbitmq, "atelier.jobs"))


async def test_a_cancel_reaches_a_job_wherever_it_is(reactor: Any, cluster: Cluster) -> None:
    """In the queue of jobs while there is no worker, and on the worker that paints it."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(cluster.node("gateway", "gateway"))
        client = await stack.enter_async_context(connected(reactor, gateway))
        waiting = await submitted(client, 1)
        await waiting.cancel()
        assert isinstance((await _events(waiting))[-1], Canceled)
        await stack.enter_async_context(cluster.node("worker", "worker", step=60))
        running = await submitted(client, 2)
        await until(lambda: bool(re.search(f"job.taken_up.*{running.job_id}", cluster.log("worker"))))
        await running.cancel()
        assert isinstance((await _events(running))[-1], Canceled)


async def test_a_node_that_does_everything_takes_a_gateway_s_jobs_too(reactor: Any, cluster: Cluster) -> None:
    """A client of the gateway and one of that node each have their pictures; the status says who paints."""
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(cluster.node("gateway", "gateway"))
        both = await stack.enter_async_context(cluster.node("both", "all"))
        through = await stack.enter_async_context(connected(reactor, gateway))
        direct = await stack.enter_async_context(connected(reactor, both))
        handles = [await submitted(through, 1), await submitted(direct, 2)]
        for handle in handles:
            assert isinstance((await _events(handle))[-1], Succeeded)
        status = await through.status()
        assert "gateway" in status.device


async def _events(handle: JobHandle) -> list[Any]:
    return [event async for event in handle.events()]


async def _is_empty(node: RabbitNode, queue: str) -> bool | None:
    told = await asyncio.to_thread(
        node.ctl, "list_queues", "name", "messages_ready", "messages_unacknowledged", "--no-table-headers"
    )
    return [queue, "0", "0"] in [line.split() for line in told.splitlines()] or None
