"""The load on grpc.aio's server from grpc.aio's own client: shows that the client in bench.callers costs the server no more.

Takes what bench.round_trips takes, and tells the same. Each channel is a connection of its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from typing import Any

import grpc.aio

from bench.callers import GRPC_PATH, WrongReply, check_pong
from bench.children import cpu_seconds
from proto import atelier_pb2 as pb


class Load:
    """Channels, each with one call under way."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._connections = connections
        self.answered = 0

    async def call(self, number: int) -> None:
        """Keep one channel busy until cancelled."""
        options = [("grpc.use_local_subchannel_pool", 1)]  # or they would share one connection
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", options=options) as channel:
            ping = channel.unary_unary(
                GRPC_PATH, request_serializer=pb.Ping.SerializeToString, response_deserializer=pb.Pong.FromString
            )
            client_time = number + 1
            while True:
                client_time += self._connections
                pong = await ping(pb.Ping(client_time_us=client_time))
                if pong.client_time_us != client_time:
                    raise WrongReply(str(pong))
                check_pong(pong)
                self.answered += 1


async def measure(wanted: dict[str, Any]) -> dict[str, float]:
    """Warm up, then measure one window."""
    load = Load(wanted["port"], wanted["connections"])
    calls = [asyncio.ensure_future(load.call(number)) for number in range(wanted["connections"])]
    await _while(calls, wanted["warm_up"])
    answered, server, client = load.answered, cpu_seconds(wanted["pid"]), time.process_time()
    began = time.perf_counter()
    await _while(calls, wanted["seconds"])
    seen = {
        "round_trips": load.answered - answered,
        "seconds": time.perf_counter() - began,
        "server_cpu": cpu_seconds(wanted["pid"]) - server,
        "client_cpu": time.process_time() - client,
    }
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    return seen


async def _while(calls: Sequence[asyncio.Future[None]], seconds: float) -> None:
    """Let them run; raises what one of them raised."""
    done, _ = await asyncio.wait(calls, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for call in done:
        call.result()


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(json.loads(sys.argv[1])))), flush=True)
