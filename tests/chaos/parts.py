"""Everything around the server: broker, database, storage, the backend that publishes and is called."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pika
import psycopg

from tests import rabbitmq, s3
from tests.chaos.receiver import TOKEN, Receiver
from tests.postgres import PostgresServer

ROOT = Path(__file__).resolve().parent.parent.parent
STYLES = ROOT / "models" / "demo" / "adapters"
QUEUE = "image_generation"
LOOK_EVERY = 0.2  # seconds


class Parts:
    """All of them run. What the server logs is kept in `folder`."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="atelier-chaos-"))
        self.rabbit = rabbitmq.RabbitNode()
        self.postgres = PostgresServer()
        self.storage = s3.S3Server(s3.rclone)
        self.receiver = Receiver()
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when they answer."""
        self.postgres.start()
        self.postgres.sql("CREATE DATABASE chaos")
        self.storage.start()
        self.receiver.back()
        self.rabbit.start()

    def remove(self) -> None:
        """Leave nothing behind."""
        self.kill_server()
        self.receiver.away()
        for part in (self.rabbit, self.postgres, self.storage):
            part.remove()
        shutil.rmtree(self.folder)

    def settings(self) -> dict[str, str]:
        """What a backend's .env has, and a few of our own so that the test is over today."""
        return {
            "RABBITMQ_HOST": "127.0.0.1",
            "RABBITMQ_PORT": str(self.rabbit.port),
            "RABBITMQ_USER": rabbitmq.USER,
            "RABBITMQ_PASS": rabbitmq.PASSWORD,
            "DATABASE_URL": self.postgres.url("chaos"),
            "BACKEND_API_URL": self.receiver.url,
            "INTERNAL_API_TOKEN": TOKEN,
            **self.storage.settings(),
            "ATELIER_TCP_LISTEN": "tcp:0:interface=127.0.0.1",
            "ATELIER_HTTP_LISTEN": "off",
            "ATELIER_DATA_DIR": str(self.folder / "data"),
            "ATELIER_RETRY_DELAYS": "0,1,2,4,8",
            "ATELIER_MAX_JOB_ATTEMPTS": "100",
            "ATELIER_LOG_LEVEL": "INFO",
        }

    # The server

    def serve(self, engine: str, moment: str, nth: int) -> None:
        """Begin a life of the server."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ATELIER_", "AWS_"))}
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.server", engine, moment, str(nth)],
                cwd=self.folder, env={**clean, "PYTHONPATH": str(ROOT), **self.settings()},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def status(self) -> int | None:
        """How the server ended; None while it runs."""
        assert self._server is not None
        return self._server.poll()

    def stop_server(self, within: float) -> int:
        """As an operator does; gives its status."""
        assert self._server is not None
        self._server.terminate()
        return self._server.wait(within)

    def kill_server(self) -> None:
        """Whether it runs or not."""
        if self._server is not None and self._server.poll() is None:
            self._server.kill()
            self._server.wait()

    def log(self) -> str:
        """What all lives of it said."""
        return (self.folder / "log").read_text(errors="replace")

    # The backend

    def put_styles(self) -> dict[int, str]:
        """The demo's styles of one file or a PEFT folder, where style ids are looked for. Gives their names."""
        bucket = self.storage.store()
        names: dict[int, str] = {}
        for number, path in enumerate(sorted(STYLES.iterdir()), start=1):
            if path.suffix == ".safetensors":
                bucket.put(f"models/style_{number}/lora_weights.safetensors", path.read_bytes())
            elif path.is_dir():
                for file in path.iterdir():
                    bucket.put(f"models/style-{number}/{file.name}", file.read_bytes())
            else:
                continue
            names[number] = path.stem
        return names

    def publish(self, messages: Sequence[dict[str, Any]]) -> None:
        """Durably, as a backend does."""
        connection = self.rabbit.connect()
        channel = connection.channel()
        channel.queue_declare(QUEUE, durable=True)
        channel.confirm_delivery()
        properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
        for message in messages:
            channel.basic_publish("", QUEUE, json.dumps(message).encode(), properties, mandatory=True)
        connection.close()

    # What has become of it all

    def records(self, statement: str) -> list[tuple[Any, ...]]:
        """Rows of the server's database; none while it has no such table, or is away."""
        try:
            with psycopg.connect(self.postgres.url("chaos"), autocommit=True) as connection:
                return connection.execute(statement.encode()).fetchall()
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return []

    def queues(self) -> dict[str, tuple[int, int]]:
        """By name: messages that are ready, and that are unacknowledged."""
        listed = self.rabbit.ctl(
            "list_queues", "name", "messages_ready", "messages_unacknowledged", "--no-table-headers"
        )
        rows = (line.split("\t") for line in listed.splitlines() if line.strip())
        return {name: (int(ready), int(unacked)) for name, ready, unacked in rows}

    def objects(self) -> set[str]:
        """The keys of the pictures in the bucket."""
        listed = self.storage.store().list("generations/").collect()
        return {str(entry["path"]) for entry in listed}


def a_message(number: int, style_id: int, seed: int) -> dict[str, Any]:
    """Form A1, of a small picture in a style."""
    data = {
        "generation_id": number,
        "style_id": style_id,
        "prompt": "a big red star on a blue background",
        "parameters": {"width": 128, "height": 128, "steps": 8, "cfg_scale": 4.0, "seed": seed},
    }
    made = {"task_id": str(uuid.UUID(int=number)), "type": "image_generation", "created_at": "2026-01-01T00:00:00.000Z"}
    return {**made, "data": data}


@contextmanager
def all_parts() -> Iterator[Parts]:
    """Running, until the block ends."""
    parts = Parts()
    try:
        parts.start()
        yield parts
    finally:
        parts.remove()


def wait(until: Callable[[], bool], within: float, what: Callable[[], str]) -> None:
    """Look every now and then. Raises AssertionError, with what is the case instead."""
    end = time.monotonic() + within
    while not until():
        assert time.monotonic() < end, what()
        time.sleep(LOOK_EVERY)
