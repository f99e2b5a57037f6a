"""What is asked of both sides of bench.engine, the two clients that ask it, and the comparison of what comes back."""

from __future__ import annotations

import asyncio
import base64
import http.client
import io
import itertools
import json
import struct
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from PIL import Image, ImageChops

from bench.callers import TOKEN, frame
from proto import atelier_pb2 as pb

SIZE = 128  # pixels
STEPS = 20
GUIDANCE = 4.0
PATIENCE = 60.0  # seconds without a word from a side; ten pictures take ten
MAX_DIFFERENCE = 2  # of 255; both compute in float32, so rounding to bytes is where they may part

_COLOURS = ("red", "green", "blue", "yellow", "purple", "orange")
_SHAPES = ("circle", "square", "triangle", "star")
_GROUNDS = ("white", "black", "gray")


class WrongPicture(Exception):
    """A side did not paint what it was asked for."""


@dataclass(frozen=True, slots=True)
class Order:
    """One picture."""

    prompt: str
    seed: int
    adapter: str = ""


def orders(adapters: Sequence[str] = ("",)) -> Iterator[Order]:
    """One after the other without end: other prompts as long as there are any, always another seed, the adapters in turn."""
    worlds = itertools.cycle(itertools.product(_COLOURS, _SHAPES, _GROUNDS))
    for seed, (colour, shape, ground) in enumerate(worlds):
        yield Order(f"a {colour} {shape} on a {ground} background", seed, adapters[seed % len(adapters)])


def as_json(order: Order, signature: str = "") -> bytes:
    """What the peers are told: the pipeline's arguments, a seed, an adapter, and a text to sign with if there is one."""
    wanted: dict[str, object] = {
        "prompt": order.prompt,
        "seed": order.seed,
        "adapter": order.adapter,
        "width": SIZE,
        "height": SIZE,
        "num_inference_steps": STEPS,
        "guidance_scale": GUIDANCE,
    }
    if signature:
        wanted["signature"] = signature
    return json.dumps(wanted).encode()


class Painter(Protocol):
    """A connection to a side that paints."""

    async def paint(self, order: Order) -> bytes:
        """The picture as PNG."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...


class AtelierPainter:
    """Atelier's wire: Submit with progress, the picture inline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._requests = itertools.count(2)

    @classmethod
    async def connect(cls, port: int) -> AtelierPainter:
        """Connect and be welcomed."""
        painter = cls(*await asyncio.open_connection("127.0.0.1", port))
        hello = pb.Hello(protocol_version=1, token=TOKEN, client_name="bench")
        painter._writer.write(frame(pb.Envelope(request_id=1, hello=hello)))
        answer = await painter._next()
        if answer.WhichOneof("message") != "welcome":
            raise WrongPicture(str(answer))
        return painter

    async def paint(self, order: Order) -> bytes:
        """From Submit to Result."""
        submit = pb.Submit(
            prompt=order.prompt,
            seed=order.seed,
            width=SIZE,
            height=SIZE,
            num_inference_steps=STEPS,
            guidance_scale=GUIDANCE,
            progress=True,
            inline_pictures=True,
            adapters=[pb.AdapterUse(name=order.adapter, scale=1.0)] if order.adapter else [],
        )
        self._writer.write(frame(pb.Envelope(request_id=next(self._requests), submit=submit)))
        png = b""
        while True:
            answer = await self._next()
            kind = answer.WhichOneof("message")
            if kind == "chunk":
                png += answer.chunk.data
            elif kind == "result":
                return png
            elif kind not in ("accepted", "progress"):
                raise WrongPicture(str(answer))

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

    async def _next(self) -> pb.Envelope:
        return pb.Envelope.FromString(await _counted(self._reader))


class PipelinePainter:
    """bench.peers.pipeline: a line of JSON there, a length and a PNG back."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> PipelinePainter:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def paint(self, order: Order) -> bytes:
        """One picture."""
        self._writer.write(as_json(order) + b"\n")
        return await _counted(self._reader)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


class LitServePainter:
    """bench.peers.litserve_api: HTTP, a connection a request (an idle one is closed after five seconds), the PNG in base64."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def paint(self, order: Order) -> bytes:
        """One picture."""
        return await asyncio.to_thread(self._post, order)

    def close(self) -> None:
        """Nothing is open."""

    def _post(self, order: Order) -> bytes:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)) as connection:
            connection.request("POST", "/predict", as_json(order), {"Content-Type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise WrongPicture(f"{answer.status}: {body[:200]!r}")
        return base64.b64decode(json.loads(body)["png"])


async def _counted(reader: asyncio.StreamReader) -> bytes:
    """The bytes after a 4-byte length. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE):
        size: int = struct.unpack(">I", await reader.readexactly(4))[0]
        return await reader.readexactly(size)


def difference(ours: bytes, theirs: bytes) -> int:
    """How far two PNGs are apart at most, of 255. Raises WrongPicture where one is no picture of the size asked for."""
    pictures = [Image.open(io.BytesIO(png)).convert("RGB") for png in (ours, theirs)]
    for picture in pictures:
        if picture.size != (SIZE, SIZE):
            raise WrongPicture(f"a picture of {picture.size}")
        if all(low == high for low, high in _extrema(picture)):
            raise WrongPicture("a picture of one colour")
    return max(high for _, high in _extrema(ImageChops.difference(*pictures)))


def _extrema(picture: Image.Image) -> list[tuple[int, int]]:
    return [band.getextrema() for band in picture.split()]  # type: ignore[misc]  # two integers for a band of bytes
