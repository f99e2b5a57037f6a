"""The RabbitMQ door of a whole server, on a real broker: everything that can happen to a broker, and no job lost.

The engine alone is tests.quick_painter's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pika
import pytest

from ai.types import Failed, GenerationRequest, OutOfMemory, Started
from config import load_settings
from factory import service as building
from factory.service import AtelierService, make_service
from server.doors.amqp.dead_letters import CODE, FIELD, REASON
from server.job import Job, JobState
from tests.integration.eventually import eventually, until
from tests.quick_painter import QuickPainter
from tests.rabbitmq import PASSWORD, USER, RabbitNode

QUEUE = "image_generation"
DEAD = "image_generation.dead"


class MoodyPainter(QuickPainter):
    """Has no memory for a picture of "scarce" things the first `moods` times, and paints "slow" ones when it is let."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.moods = 1
        self.held: list[GenerationRequest] = []
        self.holds = True

    def submit(self, request: GenerationRequest) -> None:
        """Paint it, or not."""
        if "scarce" in request.prompt and self.moods:
            self.moods -= 1
            self._tell([Started(request.request_id), Failed(request.request_id, OutOfMemory("no room"))])
        elif "slow" in request.prompt and self.holds:
            self.held.append(request)
        else:
            super().submit(request)

    def let(self) -> None:
        """Paint what was held, and hold no more."""
        self.holds = False
        for request in self.held:
            super().submit(request)
        self.held.clear()


class Server:
    """A server with a broker."""

    def __init__(self, service: AtelierService, node: RabbitNode) -> None:
        self.service = service
        self.painter: Any = service._painter
        self._node = node

    def post(self, *messages: dict[str, Any]) -> None:
        """Publish persistent messages, as a backend does."""
        self.post_bodies(*(json.dumps(message).encode() for message in messages))

    def post_bodies(self, *bodies: bytes) -> None:
        """The same, of bytes."""
        connection = self._node.connect()
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True)
        channel.confirm_delivery()
        for body in bodies:
            properties = pika.BasicProperties(delivery_mode=2, content_type="application/json")
            channel.basic_publish("", QUEUE, body, properties, mandatory=True)
        connection.close()

    async def job(self, key: str) -> Job:
        """The job of a key, as soon as there is one."""
        return await eventually(lambda: self.service._records.store.find("backend", key))

    async def ended(self, *keys: str) -> list[JobState]:
        """The ends of jobs, as soon as they have come."""
        return [(await eventually(partial(self._end, key))).state for key in keys]

    async def _end(self, key: str) -> Job | None:
        job = await self.job(key)
        return job if job.completed_at is not None else None

    async def counts(self, queue: str = QUEUE) -> tuple[int, int]:
        """How many messages of a queue wait, and how many are unacknowledged."""
        told = await asyncio.to_thread(
            self._node.ctl, "list_queues", "name", "messages_ready", "messages_unacknowledged", "--no-table-headers"
        )
        rows = {
            name: (int(ready), int(unacked))
            for name, ready, unacked in (line.split() for line in told.split("\n") if line)
        }
        return rows.get(queue, (0, 0))

    async def until(self, counts: tuple[int, int], queue: str = QUEUE) -> None:
        """Wait until a queue has these."""

        async def look() -> bool | None:
            return await self.counts(queue) == counts or None

        await eventually(look)

    async def dead(self, count: int) -> list[tuple[str, str, bytes]]:
        """Code, field and body of the dead letters, as soon as there are so many."""
        await self.until((count, 0), DEAD)
        found: list[tuple[str, str, bytes]] = []
        connection = self._node.connect()
        channel = connection.channel()
        for _ in range(count):
            _, properties, body = channel.basic_get(DEAD, auto_ack=True)
            assert properties.headers[REASON]
            found.append((properties.headers[CODE], properties.headers[FIELD], body))
        connection.close()
        return found


def order(key: str, prompt: str = "a red star", **more: Any) -> dict[str, Any]:
    """A message of our own form."""
    return {"type": "atelier.submit", "idempotency_key": key, "prompt": prompt, "width": 64, "height": 64,
            "num_inference_steps": 3, **more}  # fmt: skip


@asynccontextmanager
async def serving(
    reactor: Any,
    node: RabbitNode,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    clean: bool = True,
    **settings: Any,
) -> AsyncIterator[Server]:
    """A server whose queues are gone at the end, if that is to be `clean`."""
    monkeypatch.setattr(building, "EngineThreads", MoodyPainter)
    given = {
        "tcp_listen": "tcp:0:interface=127.0.0.1", "http_listen": "off", "data_dir": folder / "data", "drain_timeout": 20,
        "rabbitmq_host": "127.0.0.1", "rabbitmq_port": node.port, "rabbitmq_user": USER, "rabbitmq_pass": PASSWORD,
        **settings,
    }  # fmt: skip
    service = make_service(load_settings(**given), reactor)
    await service.start()
    try:
        yield Server(service, node)
    finally:
        await service.stop()
        if clean:
            await asyncio.to_thread(node.empty)


Serve = Callable[..., Any]


@pytest.fixture
def serve(reactor: Any, rabbitmq: RabbitNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """`async with serve(setting=value) as server`."""
    return lambda **settings: serving(reactor, rabbitmq, tmp_path, monkeypatch, **settings)


async def test_messages_become_pictures_and_the_queue_is_empty(serve: Serve, tmp_path: Path) -> None:
    """Jobs succeed, their pictures are stored, and each delivery is acknowledged."""
    async with serve() as server:
        keys = [f"order-{number}" for number in range(25)]
        server.post(*map(order, keys), order("order-3"))
        assert await server.ended(*keys) == [JobState.SUCCEEDED] * 25
        await server.until((0, 0))
        job = await server.job("order-7")
        assert (tmp_path / "data" / "artifacts" / job.artifacts[0].key).stat().st_size == job.artifacts[0].size


async def test_no_more_than_the_prefetch_is_taken(serve: Serve) -> None:
    """What waits stays in the broker, for whichever node has room."""
    async with serve(rabbitmq_prefetch=4) as server:
        server.post(*(order(f"order-{number}", "slow") for number in range(9)))
        await server.until((5, 4))
        assert len(server.painter.held) == 4
        server.painter.let()
        await server.until((0, 0))


async def test_a_killed_broker_loses_no_job_and_paints_none_twice(serve: Serve, rabbitmq: RabbitNode) -> None:
    """It is killed while jobs are under way: they go on, their messages come again, find them, and are acknowledged."""
    async with serve() as server:
        keys = [f"order-{number}" for number in range(15)]
        server.post(*(order(key, "slow") for key in keys))
        await server.until((5, 10))
        rabbitmq.stop()
        for _ in range(3):
            QuickPainter.submit(server.painter, server.painter.held.pop(0))
        await asyncio.to_thread(rabbitmq.start)
        server.painter.let()
        assert await server.ended(*keys) == [JobState.SUCCEEDED] * 15
        await server.until((0, 0))


async def test_a_channel_that_the_broker_closes_costs_nothing(serve: Serve, rabbitmq: RabbitNode) -> None:
    """A job that takes longer than the broker's consumer_timeout ends all the same, and its message is acknowledged."""
    await asyncio.to_thread(rabbitmq.ctl, "eval", "application:set_env(rabbit, consumer_timeout, 500).")
    try:
        async with serve() as server:
            channels: set[int] = set()
            server.post(order("order-1", "slow"))
            await server.job("order-1")
            while len(channels) < 3:  # it was closed at least once meanwhile
                intake = server.service._amqp._takers[0]
                if intake._consuming._channel is not None:
                    channels.add(id(intake._consuming._channel))
                await asyncio.sleep(0.02)
            assert len(server.painter.held) == 1
            await asyncio.to_thread(rabbitmq.ctl, "eval", "application:set_env(rabbit, consumer_timeout, 1800000).")
            server.painter.let()
            await server.until((0, 0))
            assert await server.ended("order-1") == [JobState.SUCCEEDED]
    finally:
        await asyncio.to_thread(rabbitmq.ctl, "eval", "application:set_env(rabbit, consumer_timeout, 1800000).")


async def test_a_deleted_queue_is_consumed_again_when_it_is_there_again(serve: Serve, rabbitmq: RabbitNode) -> None:
    """What was under way ends; what is published later is taken."""
    async with serve() as server:
        server.post(order("order-1", "slow"))
        await server.until((0, 1))
        await asyncio.to_thread(rabbitmq.ctl, "delete_queue", QUEUE)
        server.post(order("order-2"))
        assert await server.ended("order-2") == [JobState.SUCCEEDED]
        server.painter.let()
        assert await server.ended("order-1") == [JobState.SUCCEEDED]
        await server.until((0, 0))


async def test_credentials_that_expire_and_are_good_again(
    serve: Serve, rabbitmq: RabbitNode, caplog: pytest.LogCaptureFixture
) -> None:
    """Refused, the door says so in the broker's words and tries on; nothing that was taken is lost."""
    async with serve() as server:
        server.post(order("order-1", "slow"))
        await server.until((0, 1))
        await asyncio.to_thread(rabbitmq.ctl, "change_password", USER, "another")
        await asyncio.to_thread(rabbitmq.ctl, "close_all_connections", "expired")
        consuming = server.service._amqp._lasting[1]
        await until(lambda: "ACCESS_REFUSED" in consuming._problem)
        server.painter.let()
        assert await server.ended("order-1") == [JobState.SUCCEEDED]
        await asyncio.to_thread(rabbitmq.ctl, "change_password", USER, PASSWORD)
        server.post(order("order-2"))
        assert await server.ended("order-2") == [JobState.SUCCEEDED]
        await server.until((0, 0))
    assert PASSWORD not in caplog.text


async def test_an_alarm_of_the_broker_holds_up_no_job(serve: Serve, rabbitmq: RabbitNode) -> None:
    """While it takes no messages, jobs end and are acknowledged; a refusal waits until its dead letter is taken."""
    async with serve() as server:
        server.post(order("order-1", "slow"), order("order-2", "slow", width=63))
        await server.job("order-1")
        (dead,) = await server.dead(1)
        assert dead[:2] == ("INVALID_PARAMETER", "width")
        server.post(order("order-3", "slow"), order("order-4", "slow"))
        await server.until((0, 3))
        await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0")
        try:
            server.painter.let()
            assert await server.ended("order-1", "order-3", "order-4") == [JobState.SUCCEEDED] * 3
            await server.until((0, 0))
        finally:
            await asyncio.to_thread(rabbitmq.ctl, "set_vm_memory_high_watermark", "0.4")
        server.post(order("order-5", width=63))
        assert len(await server.dead(1)) == 1


async def test_a_retry_s_handle_waits_in_the_broker(serve: Serve) -> None:
    """Its copy comes back from the delay queue, finds the job, and is acknowledged with it."""
    async with serve(retry_delays="2") as server:
        server.post(order("order-1", "scarce"))
        await server.until((1, 0), "image_generation.delay.2000")
        await server.until((0, 0))  # acknowledged just after the broker has the copy
        assert await server.ended("order-1") == [JobState.SUCCEEDED]
        assert (await server.job("order-1")).retries == 1
        await server.until((0, 0), "image_generation.delay.2000")
        await server.until((0, 0))


async def test_what_is_refused_lies_with_the_dead(serve: Serve) -> None:
    """Each with its reason, whole as it came, and nothing comes twice; what follows is painted."""
    async with serve() as server:
        large = b'{"prompt": "' + b"x" * 50_000_000 + b'"}'
        server.post_bodies(
            b"not JSON", b'{"type": "dance"}', large, json.dumps(order("order-1", model="none")).encode()
        )
        server.post(order("order-2"))
        dead = await server.dead(4)
        assert sorted(letter[:2] for letter in dead) == [
            ("FRAME_TOO_LARGE", "body"),
            ("INVALID_PARAMETER", "type"),
            ("MALFORMED_MESSAGE", "body"),
            ("MODEL_NOT_FOUND", "model"),
        ]
        assert large in [body for _, _, body in dead]
        assert await server.ended("order-2") == [JobState.SUCCEEDED]
        await server.until((0, 0))


async def test_queues_that_stand_with_other_arguments_are_used_as_they_are(serve: Serve, rabbitmq: RabbitNode) -> None:
    """A backend that has declared its queues otherwise loses neither its messages nor its connection."""
    connection = rabbitmq.connect()
    channel = connection.channel()
    channel.queue_declare(DEAD, durable=True, arguments={"x-max-length": 100})
    channel.queue_declare(QUEUE, durable=True)
    connection.close()
    async with serve() as server:
        server.post(order("order-1"), order("order-2", num_images=9))
        assert await server.ended("order-1") == [JobState.SUCCEEDED]
        assert [letter[:2] for letter in await server.dead(1)] == [("INVALID_PARAMETER", "num_images")]


async def test_a_stop_leaves_what_has_not_ended_to_the_next_life(
    reactor: Any, rabbitmq: RabbitNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is stopped acknowledges what ended; the next one takes up job and message, and paints once."""
    keys = [f"order-{number}" for number in range(6)]
    async with serving(reactor, rabbitmq, tmp_path, monkeypatch, clean=False, drain_timeout=0) as server:
        server.post(*(order(key, "slow") for key in keys))
        await server.until((0, 6))
    async with serving(reactor, rabbitmq, tmp_path, monkeypatch) as server:
        server.painter.let()
        assert await server.ended(*keys) == [JobState.SUCCEEDED] * 6
        await server.until((0, 0))


async def test_a_server_without_its_broker_serves(serve: Serve, rabbitmq: RabbitNode) -> None:
    """It starts, and stops, while the broker is away; once that is there, it takes messages."""
    rabbitmq.stop()
    try:
        async with serve() as server:
            assert server.service.addresses
            await asyncio.to_thread(rabbitmq.start)
            server.post(order("order-1"))
            assert await server.ended("order-1") == [JobState.SUCCEEDED]
    finally:
        if rabbitmq._process is None:
            await asyncio.to_thread(rabbitmq.start)
