"""Gateways and workers: processes of their own that share one database, one broker and one folder of pictures."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from bot.client import Client
from bot.jobs import JobHandle
from tests.integration.eventually import until
from tests.integration.served import ROOT
from tests.postgres import PostgresServer
from tests.rabbitmq import PASSWORD, USER

SIZE = 64
DATABASE = "roles"


class Nodes:
    """Starts nodes that share a database and a broker, each with a folder of its own and one for all pictures."""

    def __init__(self, folder: Path, postgres: PostgresServer, brokers: str) -> None:
        self._folder = folder
        clean = {name: value for name, value in os.environ.items() if not name.startswith("ATELIER_")}
        self._environment = {
            **clean,
            "PYTHONPATH": str(ROOT),
            "ATELIER_TCP_LISTEN": "tcp:0:interface=127.0.0.1",
            "ATELIER_HTTP_LISTEN": "off",
            "ATELIER_STORAGE_URL": f"file://{folder}/pictures",
            "ATELIER_JOB_LEASE": "3",
            "ATELIER_LOG_LEVEL": "INFO",
            "DATABASE_URL": postgres.url(DATABASE),
            "RABBITMQ_HOST": brokers,
            "RABBITMQ_USER": USER,
            "RABBITMQ_PASS": PASSWORD,
        }

    @asynccontextmanager
    async def node(self, name: str, role: str, step: float = 0.05, **settings: str) -> AsyncIterator[Node]:
        """A node, once it says that it works, and a worker has its connection; killed at the end if it still runs."""
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
            assert line, self.log(name)
            if role != "gateway":
                await until(lambda: "purpose=working" in self.log(name))
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


async def events_of(handle: JobHandle) -> list[Any]:
    """All that a job says, to its end."""
    return [event async for event in handle.events()]


@contextmanager
def empty_database(postgres: PostgresServer) -> Iterator[None]:
    """For `Nodes`, gone in the end."""
    postgres.sql(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")
    postgres.sql(f"CREATE DATABASE {DATABASE}")
    yield
    postgres.sql(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def ended_of(log: str) -> set[str]:
    """The jobs that a node ended, by what it logged."""
    return set(re.findall(r"job\.ended.*?job_id=([0-9a-f]{32})", log))
