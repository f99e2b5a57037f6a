"""Submits over TCP, and their results: as many as fit at once, or at an even pace.

    python -m bench.durable_load '{"port": …, "jobs": …, "at_once": …}'      prints {"seconds", "latencies": []}
    python -m bench.durable_load '{"port": …, "jobs": …, "per_second": …}'

A job's latency is the time from its Submit to its Result, in seconds; every job must end with a Result.
"""

from __future__ import annotations

import asyncio
import json
import struct
import sys
import time
from typing import Any

from bench.callers import TOKEN, WrongReply, frame
from proto import atelier_pb2 as pb

WISHES = {"prompt": "a red star", "width": 64, "height": 64, "num_inference_steps": 2, "seed": 7}


class Load:
    """One connection and its jobs."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sent: dict[int, float] = {}
        self.latencies: list[float] = []

    async def hello(self) -> None:
        """Say who calls."""
        self._write(pb.Envelope(request_id=1, hello=pb.Hello(protocol_version=1, token=TOKEN, client_name="bench")))
        if (await self._next()).WhichOneof("message") != "welcome":
            raise WrongReply("not welcome")

    def submit(self, number: int) -> None:
        """Ask for a picture."""
        self._sent[number] = time.monotonic()
        self._write(pb.Envelope(request_id=number + 2, submit=pb.Submit(**WISHES)))  # type: ignore[arg-type]

    async def hear(self, jobs: int, ended: asyncio.Semaphore) -> None:
        """Until so many have ended."""
        while len(self.latencies) < jobs:
            message = await self._next()
            kind = message.WhichOneof("message")
            if kind == "accepted":
                continue
            if kind != "result":
                raise WrongReply(f"{kind}: {message}")
            self.latencies.append(time.monotonic() - self._sent.pop(message.request_id - 2))
            ended.release()

    def _write(self, envelope: pb.Envelope) -> None:
        self._writer.write(frame(envelope))

    async def _next(self) -> pb.Envelope:
        (size,) = struct.unpack(">I", await self._reader.readexactly(4))
        return pb.Envelope.FromString(await self._reader.readexactly(size))


async def play(wanted: dict[str, Any]) -> dict[str, Any]:
    """What the jobs took."""
    load = Load(*await asyncio.open_connection("127.0.0.1", wanted["port"], limit=1 << 20))
    await load.hello()
    jobs, places = wanted["jobs"], asyncio.Semaphore(wanted.get("at_once", wanted["jobs"]))
    began = time.monotonic()
    hearing = asyncio.ensure_future(load.hear(jobs, places))
    for number in range(jobs):
        if "per_second" in wanted:
            await asyncio.sleep(max(0.0, began + number / wanted["per_second"] - time.monotonic()))
        else:
            await places.acquire()
        load.submit(number)
    await hearing
    return {"seconds": time.monotonic() - began, "latencies": load.latencies}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(play(json.loads(sys.argv[1])))), flush=True)
