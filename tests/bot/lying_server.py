"""A server that does not keep its promises: real TCP, the server's end of the wire, and one lie for every job."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from PIL import Image
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.protocol import Factory, Protocol

from proto import atelier_pb2 as pb
from server.futures import as_future
from server.wire.connection import Connection, Received, Role
from watermark import encode_png

Lie = Callable[["Liar", int, str, Any], None]


class Liar(Protocol):
    """One connection."""

    def __init__(self, lie: Lie, ids: Any) -> None:
        self._lie = lie
        self._ids = ids
        self._wire = Connection(Role.SERVER, handshake_frame_bytes=4096, open_frame_bytes=1 << 20)

    def dataReceived(self, data: bytes) -> None:
        self._wire.receive_data(data)
        while (event := self._wire.next_event()) is not None:
            assert isinstance(event, Received), event
            self._answer(event)

    def _answer(self, event: Received) -> None:
        message: Any = event.message
        if event.kind == "hello":
            limits = pb.Limits(max_frame_bytes=1 << 20, idle_timeout_seconds=300.0)
            self.says(event.request_id, welcome=pb.Welcome(protocol_version=1, limits=limits))
        elif event.kind == "get_server_status":
            self.says(event.request_id, server_status=pb.ServerStatus(state=pb.READY, server_version="lies"))
        elif event.kind == "list_models":
            self.says(event.request_id, models=pb.Models(models=[pb.Model(name="m")]))
        elif event.kind == "get_job":
            self.says(event.request_id, error=pb.Error(code=pb.JOB_NOT_FOUND, message="never heard of it"))
        elif event.kind == "submit":
            self._lie(self, event.request_id, f"job-{next(self._ids)}", message)

    def says(self, request_id: int, **message: Any) -> None:
        """Say it."""
        transport: Any = self.transport
        transport.write(self._wire.send(pb.Envelope(request_id=request_id, **message)))

    def accepts(self, request_id: int, job_id: str, seed: int) -> None:
        """Accepted."""
        self.says(request_id, accepted=pb.Accepted(job_id=job_id, seed=seed))

    def succeeds(self, request_id: int, job_id: str, submit: Any, **entries: str) -> None:
        """A picture, and the Result; its metadata are right but for `entries`."""
        told = {"job_id": job_id, "image_index": "0", "prompt": submit.prompt, "seed": str(submit.seed), **entries}
        png = encode_png(Image.new("RGB", (8, 8)), told)
        self.says(request_id, chunk=pb.Chunk(job_id=job_id, size=len(png), data=png))
        artifact = pb.Artifact(size=len(png), sha256=sha256(png).hexdigest(), width=8, height=8, seed=submit.seed)
        self.says(request_id, result=pb.Result(job_id=job_id, event_number=9, artifacts=[artifact]))


class LyingServer(Factory):
    """Listens while it is a context."""

    noisy = False

    def __init__(self, reactor: Any, lie: Lie) -> None:
        self._reactor = reactor
        self._lie = lie
        self._ids = itertools.count(1)
        self._port: Any = None
        self._connections: list[Liar] = []
        self.address = ""

    def buildProtocol(self, addr: Any) -> Protocol:
        self._connections.append(Liar(self._lie, self._ids))
        return self._connections[-1]

    async def __aenter__(self) -> LyingServer:
        endpoint: Any = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")  # type: ignore[no-untyped-call]
        self._port = await as_future(endpoint.listen(self))
        self.address = f"tcp:127.0.0.1:{self._port.getHost().port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.die()

    async def die(self) -> None:
        """Hang up on all, and be there no more."""
        if self._port is not None:
            port, self._port = self._port, None
            await as_future(port.stopListening())
        for connection in self._connections:
            transport: Any = connection.transport
            transport.abortConnection()
