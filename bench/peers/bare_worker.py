"""What one interpreter can do at most: jobs taken from RabbitMQ, recorded, painted, stored and ended by pika and psycopg alone.

    python -m bench.peers.bare_worker

No checks, no states, no events on the way, nothing of Atelier: all that has been delivered is one group, which is one INSERT and
commit, PNGs written and waited for by threads, one UPDATE and commit, a message for each end, one acknowledgement. PEER_BROKER
and PEER_RESULTS are URLs, PEER_QUEUE is the queue, PEER_PREFETCH as many as are under way; pictures go to the working folder.
"""

from __future__ import annotations

import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pika
import psycopg
from PIL import Image

THREADS = 16  # that wait for the disk
_NEW = (
    b"INSERT INTO bare SELECT given.id, given.request, 'queued' FROM json_to_recordset(%s::json) "
    b"AS given(id text, request text) ON CONFLICT (id) DO NOTHING"
)
_ENDED = (
    b"UPDATE bare SET state = 'succeeded' FROM json_to_recordset(%s::json) AS given(id text, request text) "
    b"WHERE bare.id = given.id AND bare.state = 'queued'"
)


class Worker:
    """One queue's consumer."""

    def __init__(self) -> None:
        self._database = psycopg.connect(os.environ["PEER_RESULTS"])
        self._database.execute("CREATE TABLE IF NOT EXISTS bare (id text PRIMARY KEY, request text, state text)")
        self._database.commit()
        self._threads = ThreadPoolExecutor(THREADS)
        self._folder = os.open(".", os.O_RDONLY)
        self._waiting: list[tuple[int, bytes]] = []
        self._channel: Any = None
        parameters = pika.URLParameters(os.environ["PEER_BROKER"])
        self._connection: Any = pika.SelectConnection(parameters, on_open_callback=self._opened)

    def run(self) -> None:
        """For ever."""
        self._connection.ioloop.start()

    def _opened(self, connection: Any) -> None:
        connection.channel(on_open_callback=self._consume)

    def _consume(self, channel: Any) -> None:
        self._channel, queue = channel, os.environ["PEER_QUEUE"]
        channel.queue_declare(queue, durable=True)
        channel.basic_qos(prefetch_count=int(os.environ["PEER_PREFETCH"]))
        channel.basic_consume(queue, self._delivered)

    def _delivered(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        if not self._waiting:
            self._connection.ioloop.call_later(0, self._work)  # when all that has come is there
        self._waiting.append((method.delivery_tag, body))

    def _work(self) -> None:
        group, self._waiting = self._waiting, []
        orders = [json.loads(body) for _, body in group]
        rows = json.dumps([{"id": order["idempotency_key"], "request": json.dumps(order)} for order in orders])
        self._database.execute(_NEW, [rows])
        self._database.commit()
        list(self._threads.map(_paint, orders))
        os.fsync(self._folder)
        self._database.execute(_ENDED, [rows])
        self._database.commit()
        for order in orders:
            key = order["idempotency_key"]
            told = json.dumps({"job_id": key, "event": "succeeded"}).encode()
            self._channel.basic_publish(
                "amq.topic", f"job.{key}.succeeded", told, pika.BasicProperties(delivery_mode=2)
            )
        self._channel.basic_ack(group[-1][0], multiple=True)


def _paint(order: dict[str, Any]) -> None:
    size = order["width"], order["height"]
    image = Image.frombytes("RGB", size, bytes([order["seed"] % 256]) * (size[0] * size[1] * 3))
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    name = order["idempotency_key"]
    handle = os.open(f".{name}", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(handle, file.getvalue())
    os.fsync(handle)
    os.close(handle)
    os.rename(f".{name}", f"{name}.png")


if __name__ == "__main__":
    Worker().run()
