"""Every test of the suite may be a coroutine: it runs on the loop that Twisted's reactor runs on.

The reactor is installed here, before any test imports it, and is running whenever a coroutine test does.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is loaded: design, Threads

from twisted.internet import asyncioreactor

LOOP = asyncio.new_event_loop()
asyncio.set_event_loop(LOOP)
asyncioreactor.install(LOOP)  # type: ignore[no-untyped-call]

import pytest  # noqa: E402  # after the reactor
from twisted.internet import reactor as installed_reactor  # noqa: E402

from tests.postgres import PostgresServer  # noqa: E402
from tests.rabbitmq import RabbitNode  # noqa: E402
from tests.redis_server import RedisServer  # noqa: E402
from tests.s3 import S3Server, make_bucket, moto, rclone  # noqa: E402

pytest_plugins = ["tests.leaks"]  # every run is searched for secrets that were told

_TIMEOUT = 300.0  # seconds; a coroutine test that hangs fails with its name instead of holding up the run


@pytest.fixture(scope="session")
def reactor() -> Any:
    """The running reactor."""
    return installed_reactor


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL server that runs. A test that stops it starts it again."""
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitNode]:
    """A RabbitMQ node that runs. A test that stops it starts it again, and leaves no queue behind."""
    node = RabbitNode()
    try:
        node.start()
        yield node
    finally:
        node.remove()


@pytest.fixture(scope="session")
def redis() -> Iterator[RedisServer]:
    """A Redis server that runs. A test that stops it starts it again."""
    server = RedisServer()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def rclone_s3() -> Iterator[S3Server]:
    """An S3 server that checks signatures. A test that stops it starts it again."""
    server = S3Server(rclone)
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="session")
def moto_s3() -> Iterator[S3Server]:
    """An S3 server that answers as AWS does."""
    server = S3Server(moto)
    try:
        server.start()
        make_bucket(server)
        yield server
    finally:
        server.remove()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test on the reactor's loop."""
    if not asyncio.iscoroutinefunction(pyfuncitem.obj):
        return None
    start_reactor()
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    LOOP.run_until_complete(asyncio.wait_for(pyfuncitem.obj(**arguments), _TIMEOUT))
    return True


def start_reactor() -> None:
    """What `reactor.run` does, except that the tests turn the loop."""
    reactor: Any = installed_reactor
    if not reactor.running:
        reactor.startRunning(installSignalHandlers=False)


def pytest_sessionfinish() -> None:
    """End the reactor's threads."""
    reactor: Any = installed_reactor
    if reactor.running:
        reactor.fireSystemEvent("shutdown")
    sys.stderr.flush()
