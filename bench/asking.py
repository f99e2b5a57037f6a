"""A request on a connection of its own, to Atelier and to its peers by HTTP; whoever is cancelled hangs up."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import json
import struct
from collections.abc import Awaitable, Callable
from typing import Any

from bench.callers import TOKEN, frame
from bench.painting import GUIDANCE, SIZE, STEPS, Order, WrongPicture, as_json
from proto import atelier_pb2 as pb
from watermark import MetadataError, read_metadata

SIGNATURE = "Mina"
LONGEST_ANSWER = 16 << 20  # bytes

Ask = Callable[[Order], Awaitable[bytes]]


async def ask_atelier(port: int, order: Order) -> bytes:
    """The picture, signed. Raises OSError, WrongPicture."""
    submit = pb.Submit(
        prompt=order.prompt, seed=order.seed, width=SIZE, height=SIZE, num_inference_steps=STEPS, guidance_scale=GUIDANCE,
        progress=False, inline_pictures=True, cancel_on_disconnect=True,
        adapters=[pb.AdapterUse(name=order.adapter, scale=1.0)] if order.adapter else [],
        signature=pb.Signature(text=SIGNATURE, artist=SIGNATURE),
    )  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        hello = pb.Hello(protocol_version=1, token=TOKEN, client_name="bench")
        writer.write(frame(pb.Envelope(request_id=1, hello=hello)))
        await _expected(reader, "welcome")
        writer.write(frame(pb.Envelope(request_id=2, submit=submit)))
        await _expected(reader, "accepted")
        png = b""
        while (answer := await _next(reader)).WhichOneof("message") == "chunk":
            png += answer.chunk.data
        if answer.WhichOneof("message") != "result":
            raise WrongPicture(str(answer))
        return checked(png, order)
    finally:
        writer.close()


async def ask_http(port: int, order: Order) -> bytes:
    """The same by POST /predict. Raises OSError, WrongPicture."""
    body = as_json(order, SIGNATURE)
    head = (
        f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=LONGEST_ANSWER)
    try:
        writer.write(head.encode() + body)
        return checked(_picture(await reader.read()), order)
    finally:
        writer.close()


def checked(png: bytes, order: Order) -> bytes:
    """A picture of this order, signed. Raises WrongPicture."""
    try:
        told = read_metadata(png)
    except MetadataError as error:
        raise WrongPicture(f"no picture: {error}") from None
    if (told.get("artist"), told.get("prompt"), told.get("seed")) != (SIGNATURE, order.prompt, str(order.seed)):
        raise WrongPicture(f"another picture: {told}")
    return png


class _Answer:
    """What http.client takes for a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: Any, **__: Any) -> io.BytesIO:
        """All of it."""
        return io.BytesIO(self._data)


def _picture(answer: bytes) -> bytes:
    response = http.client.HTTPResponse(_Answer(answer))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.HTTPException as error:
        raise WrongPicture(f"no answer: {error!r}") from None
    if response.status != http.HTTPStatus.OK:
        raise WrongPicture(f"{response.status}: {body[:200]!r}")
    if response.headers.get_content_type() == "application/json":
        return base64.b64decode(json.loads(body)["png"])
    return body


async def _expected(reader: asyncio.StreamReader, kind: str) -> None:
    answer = await _next(reader)
    if answer.WhichOneof("message") != kind:
        raise WrongPicture(str(answer))


async def _next(reader: asyncio.StreamReader) -> pb.Envelope:
    try:
        (size,) = struct.unpack(">I", await reader.readexactly(4))
        return pb.Envelope.FromString(await reader.readexactly(size))
    except asyncio.IncompleteReadError:
        raise WrongPicture("it hung up") from None
