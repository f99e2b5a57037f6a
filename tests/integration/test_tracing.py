"""One job's trace over several processes: a message's traceparent, a gateway, a worker."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pika
import pytest

from server.tracing.jobs import span_id_of
from tests.integration.eventually import until
from tests.integration.nodes import Nodes, connected, empty_database, events_of, submitted
from tests.postgres import PostgresServer
from tests.rabbitmq import RabbitNode
from tests.server.tracing.collector import Told, collecting

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE, SPAN = CALLER.split("-")[1:3]


@pytest.fixture
def nodes(tmp_path: Path, postgres: PostgresServer, rabbitmq: RabbitNode) -> Iterator[Nodes]:
    """An empty database and a broker without queues."""
    with empty_database(postgres):
        yield Nodes(tmp_path, postgres, f"127.0.0.1:{rabbitmq.port}")
    rabbitmq.empty()


async def test_a_trace_goes_through_gateway_and_worker(reactor: Any, nodes: Nodes, rabbitmq: RabbitNode) -> None:
    """What the worker does stands below the root that the gateway tells, in the trace of whoever published the message."""
    with collecting() as collector:
        settings: dict[str, Any] = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url}
        async with AsyncExitStack() as stack:
            gateway = await stack.enter_async_context(nodes.node("gateway", "gateway", **settings))
            await stack.enter_async_context(nodes.node("worker", "worker", **settings))
            client = await stack.enter_async_context(connected(reactor, gateway))
            await events_of(await submitted(client, 1))  # both are up
            channel = rabbitmq.channel()
            message = {
                "type": "atelier.submit",
                "idempotency_key": "t-7",
                "prompt": "a star",
                "width": 64,
                "height": 64,
            }
            properties = pika.BasicProperties(content_type="application/json", headers={"traceparent": CALLER})
            channel.basic_publish("", "image_generation", json.dumps(message).encode(), properties)

            def ours() -> dict[str, Told]:
                return {span.name: span for span in collector.spans if span.trace == TRACE}

            await until(lambda: {"job", "finish"} <= ours().keys())
            channel.connection.close()
    spans = ours()
    root = spans["job"]
    assert (root.parent, root.resource["atelier.role"], root.attributes["atelier.door"]) == (SPAN, "gateway", "amqp")
    assert int(root.id, 16) == span_id_of(root.attributes["atelier.job_id"])
    roles = {name: spans[name].resource["atelier.role"] for name in ("admit", "queue", "paint", "finish")}
    assert roles == {"admit": "gateway", "queue": "worker", "paint": "worker", "finish": "worker"}
    assert {spans[name].parent for name in roles} == {root.id}
