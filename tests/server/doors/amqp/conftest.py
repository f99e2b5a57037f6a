"""A broker to connect to, queues of one's own, and time that a test moves."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import SecretStr

from server.doors.amqp.connection import BrokerAddress, RabbitMQ
from tests.rabbitmq import PASSWORD, USER, RabbitNode

_names = itertools.count(1)


def address_of(node: RabbitNode, *ports: int, **given: Any) -> BrokerAddress:
    """How to reach a node, or whoever listens on other ports here."""
    usual = {
        "hosts": [("127.0.0.1", port) for port in ports or (node.port,)],
        "user": USER,
        "password": SecretStr(PASSWORD),
    }
    return BrokerAddress(**{**usual, **given})


@pytest.fixture
def broker(rabbitmq: RabbitNode, reactor: Any) -> RabbitMQ:
    """The node, as the door sees it."""
    return RabbitMQ(reactor, address_of(rabbitmq), reactor)


@pytest.fixture
def queue(rabbitmq: RabbitNode) -> Iterator[str]:
    """A name that no other test uses; what is declared under it is removed."""
    name = f"queue-{next(_names)}"
    yield name
    connection = rabbitmq.connect()
    connection.channel().queue_delete(name)
    connection.close()
