"""What it costs that no job is lost: jobs a second beside Celery, and how much later a job ends for being durable.

    python -m bench.durable [--rounds N] [--jobs N] [--quick]

A RabbitMQ node and a PostgreSQL server (fsync on) of this run's own. Atelier is `atelier serve` with an engine that costs
nothing (bench.durable_server): every job is taken from the queue, recorded, painted in 64 × 64 pixels of one colour, encoded as
PNG, stored on the disk, its end recorded, and only then acknowledged. Celery (bench.peers.celery_app) has the same broker and
database, acknowledges late, keeps each result, and its task does nothing at all. Both get the same bodies from the same
publisher, as many unacknowledged at a time, and a round is over when the database has the end of every job; that all of
them succeeded is checked there.

Beside them the ceiling: the least code that does the same durable work in one interpreter (bench.peers.bare_worker), which is all
that any server in one Python process could come to here.

Two cores are shared by all of it, the broker and the database too, so that beside the jobs a second stands the processor time of
a server's own processes: it is what a busy machine changes least.

Atelier's second row has TCP for the queue and SQLite for PostgreSQL; its third has two nodes on the same broker and database,
since Celery's worker is two processes. Latency is from Submit to Result over TCP at 50 jobs a
second, less that of the same server with its records in memory, in bare commits of the same database in the same run: one
row, one connection, p50. Beside it the least that it can be: two such commits in turn, which a loop has a thread make.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pika
import psycopg

from bench.atelier_server import Server, atelier
from bench.callers import WrongReply
from bench.children import Child, end_on_sigterm, running, tree_cpu_seconds
from bench.report import Spread, print_figures, print_machine, print_table, ratios
from tests.postgres import PostgresServer
from tests.rabbitmq import PASSWORD, USER, RabbitNode

AT_ONCE = 64  # unacknowledged deliveries, of both; of TCP's as many are under way
PER_SECOND = 50
WITHIN = 180.0  # seconds a round may take
LOOK_EVERY = 0.02  # seconds between looks at the database
COMMITS = 300


@dataclass(frozen=True, slots=True)
class Parts:
    """The broker and the database of this run."""

    rabbit: RabbitNode
    postgres: PostgresServer

    def database(self, name: str) -> str:
        """A new one."""
        self.postgres.sql(f"CREATE DATABASE {name}")
        return self.postgres.url(name)

    def broker(self) -> str:
        """As Celery wants it."""
        return f"amqp://{USER}:{PASSWORD}@127.0.0.1:{self.rabbit.port}//"


@contextmanager
def parts() -> Iterator[Parts]:
    """Both, for as long as the block lasts."""
    rabbit, postgres = RabbitNode(), PostgresServer(fsync=True)
    try:
        postgres.start()
        rabbit.start()
        yield Parts(rabbit, postgres)
    finally:
        rabbit.remove()
        postgres.remove()


def body(number: int) -> dict[str, Any]:
    """What a backend publishes."""
    asked = {"prompt": "a red star", "width": 64, "height": 64, "num_inference_steps": 2, "seed": number % 200}
    return {"type": "atelier.submit", "idempotency_key": str(uuid.uuid4()), **asked}


Message = tuple[pika.BasicProperties, bytes]


def our_messages(jobs: int) -> list[Message]:
    """As docs/rabbitmq.md shows them."""
    properties = pika.BasicProperties(content_type="application/json", delivery_mode=2)
    return [(properties, json.dumps(body(number)).encode()) for number in range(jobs)]


def celery_messages(jobs: int, broker: str) -> list[Message]:
    """As Celery's own client would publish them, made beforehand."""
    from celery import Celery

    amqp = Celery("durable", broker=broker).amqp
    made: list[Message] = []
    for number in range(jobs):
        task = amqp.as_task_v2(str(uuid.uuid4()), "generate", args=(body(number),))
        properties = pika.BasicProperties(
            headers={name: value for name, value in task.headers.items() if value is not None},
            content_type="application/json", content_encoding="utf-8", delivery_mode=2,
            correlation_id=task.properties["correlation_id"],
        )  # fmt: skip
        made.append((properties, json.dumps(task.body).encode()))
    return made


def publish(rabbit: RabbitNode, queue: str, messages: list[Message]) -> None:
    """All of them, on one connection."""
    connection = rabbit.connect()
    channel = connection.channel()
    channel.queue_declare(queue, durable=True)  # as both do when they start
    for properties, message in messages:
        channel.basic_publish("", queue, message, properties)
    connection.close()


def time_until(count: Callable[[], int], jobs: int, begin: Callable[[], None]) -> float:
    """Seconds from `begin` until the database has the end of so many more jobs."""
    before = count()
    began = time.monotonic()
    begin()
    while count() - before < jobs:
        if time.monotonic() - began > WITHIN:
            raise WrongReply(f"{count() - before} of {jobs} jobs ended within {WITHIN:g} s")
        time.sleep(LOOK_EVERY)
    return time.monotonic() - began


@contextmanager
def counting(database: str, statement: str) -> Iterator[Callable[[], int]]:
    """A count of ended jobs; 0 while the table is not there."""
    with psycopg.connect(database, autocommit=True) as connection:

        def count() -> int:
            try:
                found = connection.execute(statement.encode()).fetchone()
            except psycopg.errors.UndefinedTable:
                return 0
            return int(found[0]) if found else 0

        yield count


def ours(settings: Mapping[str, object], *arguments: str) -> AbstractContextManager[Server]:
    """`atelier serve` with an engine that costs nothing."""
    given = {"MAX_PENDING_JOBS": 10_000, "MAX_PENDING_JOBS_PER_OWNER": 10_000, "LOG_LEVEL": "WARNING", **settings}
    return atelier(settings=given, module="bench.durable_server", arguments=arguments)


@contextmanager
def celery(run: Parts, database: str) -> Iterator[Child]:
    """A worker with a process for each core, as it starts by default."""
    environment = {
        "PEER_BROKER": run.broker(),
        "PEER_RESULTS": "db+" + database.replace("postgresql://", "postgresql+psycopg://"),
        "PEER_QUEUE": "peer",
        "PEER_PREFETCH": str(AT_ONCE // (os.cpu_count() or 1)),
    }
    arguments = ("--app", "bench.peers.celery_app", "worker", "--loglevel", "WARNING")
    with running("celery", *arguments, environment=environment) as child:
        yield child


@contextmanager
def bare(run: Parts, database: str) -> Iterator[Child]:
    """The least code that does as much, in one process."""
    environment = {
        "PEER_BROKER": f"amqp://{USER}:{PASSWORD}@127.0.0.1:{run.rabbit.port}/%2F",
        "PEER_RESULTS": database,
        "PEER_QUEUE": "bare",
        "PEER_PREFETCH": str(AT_ONCE),
    }
    with running("bench.peers.bare_worker", environment=environment) as child:
        yield child


def measure_rates(run: Parts, rounds: int, jobs: int) -> dict[str, Spread]:
    """Jobs a second of each, round by round."""
    ours_url, peers_url, bare_url = run.database("ours"), run.database("peers"), run.database("least")
    rabbit = {
        "DATABASE_URL": ours_url, "RABBITMQ_HOST": "127.0.0.1", "RABBITMQ_PORT": run.rabbit.port,
        "RABBITMQ_USER": USER, "RABBITMQ_PASS": PASSWORD, "RABBITMQ_PREFETCH": AT_ONCE,
    }  # fmt: skip
    names = ("queue", "tcp", "celery", "bare", "nodes", "celery again")
    rates: dict[str, list[float]] = {name: [] for name in names}
    costs: dict[str, list[float]] = {name: [] for name in names}
    lags: list[float] = []

    def note(name: str, work: Callable[[], float], *pids: int, warming: bool) -> None:
        """A round of one of them, and the processor time of its processes."""
        spent = -sum(map(tree_cpu_seconds, pids))
        seconds = work()
        spent += sum(map(tree_cpu_seconds, pids))
        if not warming:
            rates[name].append(jobs / seconds)
            costs[name].append(spent / jobs * 1e3)

    with (
        ours(rabbit) as queue,
        ours({}) as tcp,
        celery(run, peers_url) as worker,
        bare(run, bare_url) as least,
        counting(ours_url, "SELECT count(*) FROM jobs WHERE state = 'succeeded'") as our_count,
        counting(peers_url, "SELECT count(*) FROM celery_taskmeta WHERE status = 'SUCCESS'") as peers_count,
        counting(bare_url, "SELECT count(*) FROM bare WHERE state = 'succeeded'") as bare_count,
    ):

        def through_rabbit() -> float:
            mine = our_messages(jobs)
            return time_until(our_count, jobs, partial(publish, run.rabbit, "image_generation", mine))

        def by_celery() -> float:
            theirs = celery_messages(jobs, run.broker())
            return time_until(peers_count, jobs, partial(publish, run.rabbit, "peer", theirs))

        def by_the_least() -> float:
            same = our_messages(jobs)
            return time_until(bare_count, jobs, partial(publish, run.rabbit, "bare", same))

        def through_tcp() -> float:
            return float(load(tcp, jobs=jobs, at_once=AT_ONCE)["seconds"])

        for number in range(rounds + 1):  # the first round warms up
            note("queue", through_rabbit, queue.pid, warming=not number)
            note("celery", by_celery, worker.process.pid, warming=not number)
            note("bare", by_the_least, least.process.pid, warming=not number)
            note("tcp", through_tcp, tcp.pid, warming=not number)
            worker.check()
            least.check()
            lags.append(queue.status().reactor_lag_p99_ms)
        with ours(rabbit) as other:  # a process for each core, as Celery has
            for number in range(rounds + 1):
                note("nodes", through_rabbit, queue.pid, other.pid, warming=not number)
                note("celery again", by_celery, worker.process.pid, warming=not number)
    print(f"{jobs} jobs, {AT_ONCE} at a time, {rounds} rounds: median (smallest – largest)")
    texts = {
        "queue": "Atelier: RabbitMQ, PostgreSQL, a stored picture",
        "tcp": "Atelier: TCP, SQLite, a stored picture",
        "celery": "Celery: RabbitMQ, PostgreSQL, nothing done",
        "bare": "The least code in one process: RabbitMQ, PostgreSQL, a stored picture",
        "nodes": "Atelier: the same in two nodes, RabbitMQ, PostgreSQL",
        "celery again": "Celery, in turns with the two nodes",
    }
    rows = [[text, Spread.of(rates[name]).text(), Spread.of(costs[name]).text(2)] for name, text in texts.items()]
    print_table(["", "jobs/s", "its processes' CPU, ms a job"], rows)
    return {
        "vs_celery": ratios(rates["queue"], rates["celery"]),
        "ceiling_vs_celery": ratios(rates["bare"], rates["celery"]),
        "vs_ceiling": ratios(rates["queue"], rates["bare"]),
        "tcp_vs_celery": ratios(rates["tcp"], rates["celery"]),
        "two_nodes_vs_celery": ratios(rates["nodes"], rates["celery again"]),
        "cpu_ms_a_job": Spread.of(costs["queue"]),
        "tcp_cpu_ms_a_job": Spread.of(costs["tcp"]),
        "celery_cpu_ms_a_job": Spread.of(costs["celery"]),
        "reactor_lag_p99_ms": Spread.of(lags),
    }


def load(server: Server, **wanted: object) -> dict[str, Any]:
    """What bench.durable_load saw."""
    with running("bench.durable_load", json.dumps({"port": server.port, **wanted})) as client:
        seen: dict[str, Any] = client.hear()
        return seen


def measure_latency(rounds: int, jobs: int, run: Parts) -> dict[str, Spread]:
    """What durability adds to a job, in bare commits."""
    figures: dict[str, Spread] = {}
    databases = {
        "SQLite": ("", bare_sqlite),
        "PostgreSQL": (run.database("paced"), lambda: bare_postgres(run.database(f"bare{uuid.uuid4().hex[:8]}"))),
    }
    rows = []
    with ours({}, "--forgetful") as forgetful:
        for name, (url, bare) in databases.items():
            kept, commits, added, least = [], [], [], []
            with ours({"DATABASE_URL": url} if url else {}) as durable:
                for _ in range(rounds):
                    without = statistics.median(load(forgetful, jobs=jobs, per_second=PER_SECOND)["latencies"])
                    kept.append(statistics.median(load(durable, jobs=jobs, per_second=PER_SECOND)["latencies"]))
                    commit, two = bare()
                    commits.append(commit)
                    added.append((kept[-1] - without) / commit)
                    least.append(two / commit)
            figures[name], figures[f"{name}, least"] = Spread.of(added), Spread.of(least)
            shown = [figures[name].text(2), figures[f"{name}, least"].text(2)]
            rows.append([name, *(Spread.of(values).text(2, 1e3) for values in (kept, commits)), *shown])
    print(f"{PER_SECOND} jobs a second, p50")
    print_table(
        ["", "Submit to Result, ms", "bare commit, ms", "durability adds, commits", "two commits by a thread"], rows
    )
    return figures


def bare_sqlite() -> tuple[float, float]:
    """Seconds of a commit, and of two that are handed to a thread, p50."""
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        connection = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE bare (number INTEGER)")
        took = _commits(connection.execute)
        connection.close()
        return took


def bare_postgres(url: str) -> tuple[float, float]:
    """Seconds of a commit, and of two that are handed to a thread, p50."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE bare (number INTEGER)")
        return _commits(lambda statement: connection.execute(statement.encode()))


def _commits(execute: Callable[[str], object]) -> tuple[float, float]:
    insert = partial(execute, "INSERT INTO bare VALUES (1)")
    took = []
    for _ in range(COMMITS):
        began = time.monotonic()
        insert()
        took.append(time.monotonic() - began)
        time.sleep(1 / PER_SECOND / 4)  # a disk that is never left alone is another disk
    return statistics.median(took), statistics.median(asyncio.run(_handed_over(insert)))


async def _handed_over(insert: Callable[[], object]) -> list[float]:
    """Whoever serves from a loop waits for two before anything is told: that a job came, and that it ended."""
    took: list[float] = []
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(1) as thread:
        for _ in range(COMMITS // 2):
            began = time.monotonic()
            for _ in range(2):
                await loop.run_in_executor(thread, insert)
            took.append(time.monotonic() - began)
            await asyncio.sleep(1 / PER_SECOND / 2)
    return took


def main() -> None:
    """Run it all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1500, help="of a round")
    parser.add_argument("--quick", action="store_true", help="a smoke test: its figures mean nothing")
    given = parser.parse_args()
    end_on_sigterm()
    print_machine(["twisted", "pika", "sqlalchemy", "psycopg", "celery", "kombu"])
    rounds, jobs, paced = (1, 100, 50) if given.quick else (given.rounds, given.jobs, 250)
    with parts() as run:
        figures = measure_rates(run, rounds, jobs)
        latency = measure_latency(rounds, paced, run)
    figures["durability_in_commits"] = latency["SQLite"]
    figures["durability_in_commits_postgresql"] = latency["PostgreSQL"]
    figures["least_in_commits"] = latency["SQLite, least"]
    figures["least_in_commits_postgresql"] = latency["PostgreSQL, least"]
    print_figures({name: spread.median for name, spread in figures.items()})


if __name__ == "__main__":
    main()
