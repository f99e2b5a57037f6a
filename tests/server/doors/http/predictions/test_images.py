"""Images in requests."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from server.addresses import AddressRefused, NotSent
from server.doors.http.predictions.images import AT_ONCE, SECONDS, Images
from server.errors import Code, Refusal
from server.outgoing import OutcomeUnknown
from tests.server.fakes import settle


@dataclass
class FakeAnswer:
    """What a server says."""

    status: int = 200
    body: bytes = b"\x89PNG"

    async def read_at_most(self, limit: int) -> bytes:
        return self.body[:limit]


@dataclass
class FakeOutgoing:
    """Who asks it; it answers when it is let, or fails."""

    answer: FakeAnswer = field(default_factory=FakeAnswer)
    error: Exception | None = None
    asked: list[str] = field(default_factory=list)
    gate: asyncio.Event | None = None

    @asynccontextmanager
    async def request(self, method: str, url: str, *, seconds: float, schemes: tuple[str, ...]) -> AsyncIterator[Any]:
        assert (method, seconds, schemes) == ("GET", SECONDS, ("https",))
        self.asked.append(url)
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        yield self.answer


async def refused(images: Images, image: str) -> Refusal:
    """Why an image is not taken."""
    with pytest.raises(Refusal) as caught:
        await images.read(image)
    assert (caught.value.code, caught.value.field) == (Code.INVALID_PARAMETER, "input.image")
    return caught.value


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "image/png;name=a.png", ""])
async def test_a_data_uri_is_the_file(kind: str) -> None:
    """Whatever type it says: the bytes themselves are looked at later."""
    assert await Images(None, 10).read(f"data:{kind};base64,{base64.b64encode(b'12345').decode()}") == b"12345"


@pytest.mark.parametrize(
    "image",
    [
        "",
        "x",
        "data:image/png,abc",
        "data:;base64,a",
        "data:;base64,ab\ncd",
        "http://a.test/x.png",
        "file:///etc/passwd",
    ],
)
async def test_anything_else_is_refused(image: str) -> None:
    """Addresses that are not https, too."""
    await refused(Images(FakeOutgoing(), 10), image)


async def test_an_address_is_fetched() -> None:
    """Up to the limit of the server's init images."""
    outgoing = FakeOutgoing(FakeAnswer(body=b"0123456789"))
    assert await Images(outgoing, 10).read("HTTPS://a.test/x.png") == b"0123456789"
    assert "more than 9 bytes" in (await refused(Images(outgoing, 9), "https://a.test/x.png")).message
    assert outgoing.asked == ["HTTPS://a.test/x.png", "https://a.test/x.png"]


@pytest.mark.parametrize(
    "error",
    [AddressRefused("a.test: not public"), NotSent("a.test: away"), OutcomeUnknown("cut"), TimeoutError("late")],
)
async def test_what_cannot_be_fetched_is_refused(error: Exception) -> None:
    """With the reason, and before there is a job."""
    assert str(error) in (await refused(Images(FakeOutgoing(error=error), 10), "https://a.test/x.png")).message


async def test_an_answer_that_is_no_picture_is_refused() -> None:
    """A redirect as well: nothing follows it to where it was not checked."""
    for status in (302, 404, 500):
        found = await refused(Images(FakeOutgoing(FakeAnswer(status)), 10), "https://a.test/x.png")
        assert f"status {status}" in found.message


async def test_a_server_that_fetches_nothing_says_so() -> None:
    """And takes data: URIs."""
    assert "fetches no images" in (await refused(Images(None, 10), "https://a.test/x.png")).message


async def test_only_so_many_are_fetched_at_once() -> None:
    """The others wait."""
    outgoing = FakeOutgoing(gate=asyncio.Event())
    images = Images(outgoing, 10)
    reading = [asyncio.ensure_future(images.read(f"https://a.test/{number}")) for number in range(AT_ONCE + 2)]
    await settle()
    assert len(outgoing.asked) == AT_ONCE
    assert outgoing.gate is not None
    outgoing.gate.set()
    assert await asyncio.gather(*reading) == [b"\x89PNG"] * (AT_ONCE + 2)
