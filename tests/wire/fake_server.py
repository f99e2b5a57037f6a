"""A server that paints nothing: it answers over real TCP as docs/protocol.md says, for clients in other processes."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from types import TracebackType
from typing import Self

from proto import atelier_pb2 as pb
from server.errors import StreamBroken
from server.wire.connection import Received, Role
from tests.wire.pair import OPEN_FRAME_BYTES, a_connection

TOKEN = "a-token-for-ada"
CHUNK_BYTES = 256 * 1024
PICTURE = b"".join(hashlib.sha256(number.to_bytes(4, "big")).digest() for number in range(20_000))  # 640,000 bytes
STEPS = 4


class FakeServer:
    """Listens on a free loopback port, in a thread of its own, while the `with` block lasts."""

    def __init__(self) -> None:
        self.port = 0
        self.heard: list[str] = []  # the kind of every message, and the code's name of every frame not taken
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fake-server")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await self._stop.wait()
        server.close()
        await server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = a_connection(Role.SERVER)
        try:
            while read := await reader.read(1000):
                connection.receive_data(read)
                while (event := connection.next_event()) is not None:
                    if isinstance(event, Received):
                        self.heard.append(event.kind)
                        answers = self._answers(event)
                    else:
                        code = event.refusal.code.name
                        self.heard.append(code)
                        error = pb.Error(code=code, message=str(event.refusal))
                        answers = [pb.Envelope(request_id=event.request_id, error=error)]
                    for answer in answers:
                        writer.write(connection.send(answer))
                        await writer.drain()
        except (StreamBroken, ConnectionError) as error:
            self.heard.append(type(error).__name__)
        finally:
            writer.close()

    def _answers(self, event: Received) -> list[pb.Envelope]:
        if isinstance(event.message, pb.Hello):
            return [self._greeting(event.request_id, event.message)]
        if isinstance(event.message, pb.Submit):
            return self._job(event.request_id, event.message)
        error = pb.Error(code=pb.INTERNAL_ERROR, message="the fake server only paints")
        return [pb.Envelope(request_id=event.request_id, error=error)]

    def _greeting(self, request_id: int, hello: pb.Hello) -> pb.Envelope:
        if hello.token != TOKEN:
            error = pb.Error(code=pb.UNAUTHENTICATED, field="token", message="the token is not known here")
            return pb.Envelope(request_id=request_id, error=error)
        limits = pb.Limits(max_frame_bytes=OPEN_FRAME_BYTES, max_chunk_bytes=CHUNK_BYTES)
        welcome = pb.Welcome(protocol_version=1, server_version="fake", owner="ada", limits=limits)
        return pb.Envelope(request_id=request_id, welcome=welcome)

    def _job(self, number: int, submit: pb.Submit) -> list[pb.Envelope]:
        job = "job-1"
        said = [pb.Envelope(request_id=number, accepted=pb.Accepted(job_id=job, seed=submit.seed))]
        for step in range(1, STEPS + 1) if submit.progress else ():
            progress = pb.Progress(
                job_id=job,
                event_number=step,
                phase=pb.DENOISING,
                step=step,
                total_steps=STEPS,
                percent=100 * step / STEPS,
            )
            said.append(pb.Envelope(request_id=number, progress=progress))
        for offset in range(0, len(PICTURE), CHUNK_BYTES) if submit.inline_pictures else ():
            data = PICTURE[offset : offset + CHUNK_BYTES]
            chunk = pb.Chunk(job_id=job, offset=offset, size=len(PICTURE), data=data)
            said.append(pb.Envelope(request_id=number, chunk=chunk))
        artifact = pb.Artifact(key="a.png", size=len(PICTURE), sha256=hashlib.sha256(PICTURE).hexdigest())
        result = pb.Result(job_id=job, event_number=STEPS + 1, artifacts=[artifact], warnings=["not a real picture"])
        return [*said, pb.Envelope(request_id=number, result=result)]
