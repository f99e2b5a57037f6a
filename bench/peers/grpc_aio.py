"""Ping over grpc.aio, unary. What grpc's generated code would register is registered by hand: nothing has to be generated."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import grpc
import grpc.aio

from bench.callers import GRPC_PATH
from proto import atelier_pb2 as pb


async def ping(request: pb.Ping, context: Any) -> pb.Pong:
    """Answer as Atelier's handler does."""
    return pb.Pong(client_time_us=request.client_time_us, server_time_us=int(time.time() * 1_000_000))


async def serve() -> None:
    """Serve until the process is ended; the port is told on stdout."""
    _, service, method = GRPC_PATH.split("/")
    handler = grpc.unary_unary_rpc_method_handler(
        ping, request_deserializer=pb.Ping.FromString, response_serializer=pb.Pong.SerializeToString
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"port": port}), flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve())
