"""The bots' HTTP door: events out of a stream that is cut anywhere, and an order as JSON."""

from __future__ import annotations

from typing import Any

import pytest

from bot.doors.http import HttpDoor, body_of
from bot.doors.sse import EventStream
from bot.errors import CannotConnectError
from bot.patience import Patience
from server.doors.http.schemas import JobRequest
from tests.bot.visits import order

STREAM = (
    b"retry: 2000\n\n: here\n\n"
    b'id: 0\nevent: accepted\ndata: {"number":0}\n\n'
    b'id: 3\nevent: progress\ndata: {"number":3,"phase":"d\xc3\xa9"}\n\n'
    b'id: 4\nevent: succeeded\ndata: {"number":4}\n\n'
    b'id: 5\nevent: progress\ndata: {"number":5}\n\n'
)


@pytest.mark.parametrize("size", [1, 7, len(STREAM)])
async def test_events_come_out_whole(size: int) -> None:
    """However the stream is cut; after the last one nothing is heard, and comments are nothing."""
    heard: list[tuple[str, int]] = []

    def hear(name: str, told: dict[str, Any]) -> bool:
        heard.append((name, told["number"]))
        return name == "succeeded"

    stream = EventStream(hear)
    for begin in range(0, len(STREAM), size):
        stream.dataReceived(STREAM[begin : begin + size])
    assert heard == [("accepted", 0), ("progress", 3), ("succeeded", 4)]
    assert await stream.over == {"number": 4}


async def test_a_stream_that_breaks_has_no_end() -> None:
    """So that it is followed again."""
    stream = EventStream(lambda name, told: False)
    stream.dataReceived(STREAM[:60])
    stream.connectionLost()
    assert await stream.over is None


def test_an_order_is_what_the_door_takes() -> None:
    """With all its fields, and with only those that have to be; what is the model's to choose is left out."""
    full = order(
        negative_prompt="grey", width=192, height=128, guidance_scale=2.5, styles=("neon", "chalk"), solver="euler", priority=5,
        num_images=3, signature="Mina", signature_opacity=0.0, preview_every_steps=2,
    )  # fmt: skip
    taken = JobRequest.model_validate(body_of(full)).command("owner", "key")
    assert (taken.width, taken.seed, taken.num_images, taken.priority) == (192, 7, 3, 5)
    assert [use.name for use in taken.adapters] == ["neon", "chalk"]
    assert taken.signature is not None
    assert (taken.signature.artist, taken.signature.opacity) == ("Mina", 0.0)
    least = JobRequest.model_validate(body_of(order(num_inference_steps=None))).command("owner", "key")
    assert (least.width, least.num_inference_steps, least.signature) == (None, None, None)


def test_an_endpoint_string_is_no_url(reactor: Any) -> None:
    """It is told how one looks."""
    with pytest.raises(CannotConnectError, match="no address such as http://"):
        HttpDoor(reactor, "tcp:127.0.0.1:9000", token="", patience=Patience(), tell=lambda text, attempt: None)
