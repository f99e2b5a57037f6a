"""bench.beside: the same traffic for all, every picture looked at, and figures that say what they should."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from PIL import Image

from bench.asking import SIGNATURE, ask_http, checked
from bench.beside import OURS, Seen, Traffic, cancel_to_free, report, visited
from bench.painting import Order, WrongPicture
from watermark import encode_png

ORDER = Order("a red star", 7, "neon")


def picture(order: Order = ORDER, artist: str = SIGNATURE) -> bytes:
    """What a side has to answer."""
    about = {"prompt": order.prompt, "seed": str(order.seed), "artist": artist}
    return encode_png(Image.new("RGB", (8, 8), (9, 9, 9)), about)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncIterator[int]:
    """A server that says this to everybody, and hangs up; its port."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def _http(body: bytes, kind: str, status: str = "200 OK") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _chunked(body: bytes) -> bytes:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


async def test_a_picture_is_taken_in_each_form_that_peers_answer_in() -> None:
    """PNG as it is, PNG in chunks, base64 in JSON."""
    coded = json.dumps({"png": base64.b64encode(picture()).decode()}).encode()
    for answer in (_http(picture(), "image/png"), _chunked(picture()), _http(coded, "application/json")):
        async with answering(answer) as port:
            assert await ask_http(port, ORDER) == picture()


@pytest.mark.parametrize(
    "answer", [b"", _http(b"busy", "text/plain", "503 Service Unavailable"), _http(b"no png", "image/png")]
)
async def test_anything_else_is_a_wrong_picture(answer: bytes) -> None:
    """A refusal, a broken connection, a body that is none."""
    async with answering(answer) as port:
        with pytest.raises(WrongPicture):
            await ask_http(port, ORDER)


@pytest.mark.parametrize("wrong", [picture(artist="somebody"), picture(Order("a red star", 8)), picture(Order("x", 7))])
def test_a_picture_has_to_be_the_one_that_was_asked_for_and_signed(wrong: bytes) -> None:
    """By what it says of itself."""
    with pytest.raises(WrongPicture, match="another picture"):
        checked(wrong, ORDER)


async def test_who_waits_too_long_has_failed_and_counts_with_that_time() -> None:
    """A side that paints one picture in four loses the others, and its p99 is the visitors' patience."""
    number = 0

    async def ask(order: Order) -> bytes:
        nonlocal number
        number += 1
        if number > 10 and number % 4:
            await asyncio.Event().wait()
        return b""

    seen = Seen("as it is")
    await visited(ask, Traffic(["a", "b"], rate=40.0, seconds=0.5, patience=0.3), seen)
    assert seen.asked > 8
    assert seen.failures == sum(1 for took in seen.latencies if took == 0.3) >= seen.asked // 2
    assert seen.p99 == 0.3
    assert 0 < seen.pictures_per_second < 40


async def test_a_side_that_goes_on_for_those_who_left_keeps_the_next_waiting() -> None:
    """The difference to a picture alone is the figure; a side that stops at once has next to none."""

    def side(*, stops: bool) -> object:
        lock = asyncio.Lock()

        async def paint() -> bytes:
            async with lock:
                await asyncio.sleep(0.06)
            return b""

        async def ask(order: Order) -> bytes:
            return await (paint() if stops else asyncio.shield(asyncio.ensure_future(paint())))

        return ask

    keeps_on, stops = side(stops=False), side(stops=True)
    assert await cancel_to_free(keeps_on, ["a"]) > 0.2  # type: ignore[arg-type]
    assert await cancel_to_free(stops, ["a"]) < 0.1  # type: ignore[arg-type]


def test_the_figures_are_over_the_best_of_each(capsys: pytest.CaptureFixture[str]) -> None:
    """The most pictures and the shortest p99 may be two peers'; one that was not measured is named with its reason."""
    ours = Seen("", pictures_per_second=3.0, p99=2.0)
    one, other = Seen("", pictures_per_second=2.0, p99=8.0), Seen("", pictures_per_second=1.0, p99=4.0)
    told = report({OURS: ours, "one": one, "other": other, "third": "No module named 'third'"})
    assert (told["vs_best_peer_throughput"], told["vs_best_peer_p99"]) == (1.5, 0.5)
    assert told["per_peer"]["third"] == {"not_measured": "No module named 'third'"}
    assert "not measured: No module" in capsys.readouterr().out
    alone = report({OURS: ours, "third": "gone"})
    assert (alone["vs_best_peer_throughput"], alone["vs_best_peer_p99"]) == (None, None)
