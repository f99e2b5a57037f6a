"""Ray Serve (https://docs.ray.io/en/latest/serve/) with its dynamic batching: requests with one adapter share a run.

    python -m bench.peers.ray_serve FOLDER THREADS ADAPTERS PORT [--workers N] [--batch N] [--wait SECONDS] [--keep FOLDER]

POST /predict takes JSON (the pipeline's arguments, a seed, an adapter's name, a signature) and answers with the PNG; GET
/-/healthz is Ray's own. Ray is in no environment but the peers', so that mypy does not know it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

# Before ray is imported: it reports how it is used to its makers otherwise.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import ray
import torch
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

PLACES = 1000  # requests that may wait in a replica: the default of 5 would keep batches small
LOGICAL = 16  # Ray's own count of processors; which of the machine's are used is the system's business
STORE = 80_000_000  # bytes of shared memory; pictures do not pass through it


def deployment(given: argparse.Namespace) -> Any:
    """The application."""

    @serve.deployment(num_replicas=given.workers, max_ongoing_requests=PLACES, ray_actor_options={"num_cpus": 1})
    class Painting:
        """A replica with one pipeline."""

        def __init__(self, folder: str, threads: int, adapters: str, keep: Path | None) -> None:
            from bench.peers.pipeline import WornPipeline

            torch.set_num_threads(threads)
            self._pipeline = WornPipeline(folder, adapters)
            self._keep = keep

        @serve.batch(max_batch_size=given.batch, batch_wait_timeout_s=given.wait)  # type: ignore[untyped-decorator]
        async def painted(self, wanted: list[dict[str, Any]]) -> list[bytes]:
            """Group by group."""
            from bench.peers.pipeline import paint_in_groups

            return await asyncio.to_thread(paint_in_groups, self._pipeline, wanted, self._keep)

        async def __call__(self, request: Request) -> Response:
            return Response(await self.painted(await request.json()), media_type="image/png")

    application: Any = Painting
    return application.bind(given.folder, given.threads, given.adapters, given.keep)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("threads", type=int)
    parser.add_argument("adapters")
    parser.add_argument("port", type=int)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--batch", type=int, default=10)
    parser.add_argument("--wait", type=float, default=0.05)
    parser.add_argument("--keep", type=Path)
    given = parser.parse_args()
    ended = threading.Event()
    ray.init(
        num_cpus=LOGICAL, include_dashboard=False, log_to_driver=False, logging_level="ERROR", object_store_memory=STORE
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    try:
        serve.start(http_options={"host": "127.0.0.1", "port": given.port})
        serve.run(deployment(given), route_prefix="/predict")
        ended.wait()
    finally:
        ray.shutdown()


if __name__ == "__main__":
    main()
