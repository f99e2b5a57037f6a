"""Ping over FastAPI on uvicorn with httptools, on asyncio's loop as the others: a POST whose body is the message."""

from __future__ import annotations

import json
import socket
import time

import uvicorn
from fastapi import FastAPI, Request, Response

from bench.callers import HTTP_PATH
from proto import atelier_pb2 as pb


async def ping(request: Request) -> Response:
    """Answer as Atelier's handler does."""
    asked = pb.Ping.FromString(await request.body())
    pong = pb.Pong(client_time_us=asked.client_time_us, server_time_us=int(time.time() * 1_000_000))
    return Response(pong.SerializeToString(), media_type="application/x-protobuf")


def main() -> None:
    """Serve until the process is ended; the port is told on stdout."""
    app = FastAPI()
    app.add_api_route(HTTP_PATH, ping, methods=["POST"], response_model=None)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    # As asyncio does it where it opens the port itself; without it each answer, written in two pieces, waits for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print(json.dumps({"port": listener.getsockname()[1]}), flush=True)
    config = uvicorn.Config(app, http="httptools", loop="asyncio", log_config=None, access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
