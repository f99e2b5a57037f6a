"""Atelier as a user starts it (`python -m atelier serve`), with its model loaded before anything is measured."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from bench.callers import TOKEN, WrongReply, frame, receive
from bench.children import Child, free_port, running
from proto import atelier_pb2 as pb

LOADING_LIMIT = 120.0  # seconds; a cold disk takes 20 to import torch
POLLED_EVERY = 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Server:
    """A server that is ready."""

    child: Child
    port: int

    @property
    def pid(self) -> int:
        """Its process."""
        return self.child.process.pid

    def status(self) -> pb.ServerStatus:
        """What it says of itself. Raises OSError while it does not listen."""
        with socket.create_connection(("127.0.0.1", self.port), 10.0) as connection:
            hello = pb.Hello(protocol_version=1, token=TOKEN, client_name="bench")
            _ask(connection, pb.Envelope(request_id=1, hello=hello))
            asked = pb.Envelope(request_id=2, get_server_status=pb.GetServerStatus())
            return _ask(connection, asked).server_status


@contextmanager
def atelier(
    *,
    cores: Sequence[int] = (),
    settings: Mapping[str, object] | None = None,
    module: str = "atelier",
    arguments: Sequence[str] = ("serve",),
) -> Iterator[Server]:
    """A server with these settings (environment names without ATELIER_) beside those it needs here."""
    port = free_port()
    given = {
        "TCP_LISTEN": f"tcp:{port}:interface=127.0.0.1",
        "HTTP_LISTEN": "off",
        "TOKENS": f"bench:{TOKEN}",
        "DATA_DIR": "data",  # in the child's own, temporary folder
        "DEVICE": "cpu",
        "LOG_LEVEL": "INFO",
        **(settings or {}),
    }
    environment = {f"ATELIER_{name}": str(value) for name, value in given.items()}
    with running(module, *arguments, cores=cores, environment=environment) as child:
        server = Server(child, port)
        _wait_until_ready(server)
        yield server


def _wait_until_ready(server: Server) -> None:
    end = time.monotonic() + LOADING_LIMIT
    while time.monotonic() < end:
        server.child.check()
        with suppress(OSError):
            status = server.status()
            if status.state == pb.READY:
                return
            if status.state == pb.FAILED:
                raise WrongReply(status.problem)
        time.sleep(POLLED_EVERY)
    raise WrongReply(f"the server was not ready within {LOADING_LIMIT:g} s")


def _ask(connection: socket.socket, envelope: pb.Envelope) -> pb.Envelope:
    connection.sendall(frame(envelope))
    size: int = struct.unpack(">I", receive(connection, 4))[0]
    return pb.Envelope.FromString(receive(connection, size))
