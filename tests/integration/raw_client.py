"""A client with nothing of its own: the sans-IO core on an asyncio stream, so that tests see every message."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from proto import atelier_pb2 as pb
from server.wire.connection import Connection, Received, Role

TERMINAL = frozenset({"result", "failed", "canceled", "error"})


class RawClient:
    """One connection. Messages are handed out in the order in which they came."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.wire = Connection(Role.CLIENT, handshake_frame_bytes=4096, open_frame_bytes=1 << 20)
        self._numbers = itertools.count(1)

    @classmethod
    async def connect(cls, address: tuple[str, int], token: str | None = "") -> RawClient:
        """Connect, and (unless `token` is None) say Hello."""
        client = cls(*await asyncio.open_connection(*address, limit=1 << 16))
        if token is not None:
            client.say(hello=pb.Hello(protocol_version=1, token=token, client_name="test"))
            welcome = await client.hear()
            assert welcome.kind == "welcome", welcome
        return client

    def say(self, **message: Any) -> int:
        """Send one message, named by its place in Envelope; gives its request_id."""
        request_id = next(self._numbers)
        self.writer.write(self.wire.send(pb.Envelope(request_id=request_id, **message)))
        return request_id

    def submit(self, prompt: str, **fields: Any) -> int:
        """Send a Submit."""
        return self.say(submit=pb.Submit(prompt=prompt, **fields))

    async def hear(self) -> Received:
        """The next message. Raises EOFError when the server has closed."""
        while (event := self.wire.next_event()) is None:
            data = await self.reader.read(1 << 16)
            if not data:
                raise EOFError
            self.wire.receive_data(data)
        assert isinstance(event, Received), event
        return event

    async def hear_all(self, request_id: int) -> list[Received]:
        """Every message of one request up to its last, in order; those of others are dropped."""
        return (await self.hear_each([request_id]))[request_id]

    async def hear_each(self, request_ids: list[int]) -> dict[int, list[Received]]:
        """Every message of several requests, up to the last of each."""
        heard: dict[int, list[Received]] = {request_id: [] for request_id in request_ids}
        waiting = set(request_ids)
        while waiting:
            event = await self.hear()
            if event.request_id in heard:
                heard[event.request_id].append(event)
            if event.kind in TERMINAL:
                waiting.discard(event.request_id)
        return heard

    async def ask(self, **message: Any) -> Received:
        """Send a request that has one answer, and wait for it."""
        request_id = self.say(**message)
        while (event := await self.hear()).request_id != request_id:
            pass
        return event

    async def rest(self) -> list[Received]:
        """What the server still says until it closes."""
        heard = []
        try:
            while True:
                heard.append(await self.hear())
        except EOFError:
            return heard

    async def close(self) -> None:
        """Hang up."""
        self.writer.close()
        await self.writer.wait_closed()


def picture_of(heard: list[Received], image_index: int = 0) -> bytes:
    """A request's picture, put together from its chunks."""
    chunks: list[Any] = [event.message for event in heard if event.kind == "chunk"]
    data = b""
    for chunk in (chunk for chunk in chunks if chunk.image_index == image_index):
        assert chunk.offset == len(data), "pieces come in order and without gaps"
        assert len(chunk.data) <= 256 * 1024
        data += chunk.data
    return data
