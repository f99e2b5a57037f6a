"""What a job's records alone cost: its admission and its end in bare commits, with nothing else going on.

    python -m bench.durable_records [--jobs N]

SQLite. In one process and in turns, so that whatever disturbs one disturbs all: a bare commit, two of them that a loop has a
thread make, a job's admission, and its end. No door, no engine and no picture: it is the part of bench.durable's
"durability_in_commits" that only these transactions are to blame for.
"""

from __future__ import annotations

import argparse
import asyncio
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from ai.types import GenerationRequest
from bench.report import print_figures, print_machine
from server.database.address import address
from server.database.engines import reading_engine, writing_engine
from server.database.migrating import migrate
from server.database.outbox import Bell
from server.database.reading import Reader
from server.database.sql import SqlJobStore
from server.database.usage import Metering
from server.database.writing import GroupWriter
from server.events import Artifact
from server.job import Job, JobState, moved
from server.metering.usage import DeviceTimes
from server.pools import ThreadedPool

T = TypeVar("T")

TIMEOUT = 10.0  # seconds that the database may take
PAUSE = 0.004  # seconds between any two: at 50 jobs a second nothing follows at once either
SHA = "ab" * 32


def a_job(number: int) -> Job:
    """As bench.durable's."""
    name = f"{number:032x}"
    asked = GenerationRequest(
        request_id=name, model="demo", prompt="a red star", width=64, height=64, num_inference_steps=2,
        guidance_scale=4.5, seed=7,
    )  # fmt: skip
    return Job(
        id=name,
        owner="bench",
        idempotency_key="",
        body_hash=SHA,
        request=asked,
        signature=None,
        deadline_seconds=None,
        created_at=time.time(),
    )


def ended(job: Job) -> Job:
    """With its picture."""
    picture = Artifact(
        image_index=0, key=f"jobs/{job.id}-0.png", url="", size=300, sha256=SHA, content_type="image/png",
        width=64, height=64, seed=7,
    )  # fmt: skip
    return moved(job, JobState.SUCCEEDED, at=time.time(), last_event=4, artifacts=(picture,))


@contextmanager
def records(folder: Path) -> Iterator[SqlJobStore]:
    """A node's, as factory.records has them."""
    url, pool = address("", folder), ThreadedPool("records", 1)
    writing, reading = writing_engine(url, TIMEOUT), reading_engine(url, TIMEOUT, 1)
    with writing.connect() as connection:
        migrate(connection)
        connection.commit()
    pool.start()
    yield SqlJobStore(
        writer=GroupWriter(writing, pool),
        reader=Reader(reading, pool),
        node=lambda: "bench",
        lease=60.0,
        bell=Bell(),
        metering=Metering(DeviceTimes()),
    )
    pool.stop()
    for engine in (writing, reading):
        engine.dispose()


@contextmanager
def bare_database(folder: Path) -> Iterator[Callable[[], object]]:
    """A commit of one row."""
    bare = sqlite3.connect(folder / "bare.db", isolation_level=None, check_same_thread=False)
    for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE bare (number INTEGER)"):
        bare.execute(statement)
    yield partial(bare.execute, "INSERT INTO bare VALUES (1)")
    bare.close()


async def measure(folder: Path, jobs: int) -> dict[str, float]:
    """Medians in seconds."""
    took: dict[str, list[float]] = {name: [] for name in ("commit", "two", "admission", "end")}
    loop = asyncio.get_running_loop()

    async def timed(name: str, work: Awaitable[T]) -> T:
        began = time.perf_counter()
        given = await work
        took[name].append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE)
        return given

    with records(folder) as store, bare_database(folder) as commit, ThreadPoolExecutor(1) as thread:

        async def here() -> None:
            commit()

        async def two() -> None:
            for _ in range(2):
                await loop.run_in_executor(thread, commit)

        for number in range(jobs):
            await timed("commit", here())
            await timed("two", two())
            job = await timed("admission", store.admit(a_job(number)))
            begun = await store.move(moved(job, JobState.PROCESSING, at=time.time(), last_event=1))
            await timed("end", store.move(ended(begun)))
    return {name: statistics.median(values) for name, values in took.items()}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=300)
    given = parser.parse_args()
    print_machine(["sqlalchemy"])
    with tempfile.TemporaryDirectory(prefix="atelier-bench-") as folder:
        seen = asyncio.run(measure(Path(folder), given.jobs))
    names = {"two": "least_in_commits", "admission": "admission_in_commits", "end": "end_in_commits"}
    told = {text: seen[name] / seen["commit"] for name, text in names.items()}
    both = (seen["admission"] + seen["end"]) / seen["commit"]
    print_figures({"bare_commit_ms": seen["commit"] * 1e3, **told, "records_in_commits": both})


if __name__ == "__main__":
    main()
