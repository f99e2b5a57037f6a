"""Messages between the server and a model's process, as bytes."""

from __future__ import annotations

import json
import struct

import pytest

from ai.custom.framing import Frames, FramingError, Message, frame

MESSAGES = [
    Message({"say": "loaded"}),
    Message({"say": "done", "output": {"a": [1, None, "ü\n"]}}),
    Message({"say": "preview"}, [b"\x00" * 300, b"", b"xyz"]),
]


def raw(head: bytes, parts: bytes = b"") -> bytes:
    """A frame of whatever bytes."""
    return struct.pack(">II", len(head), len(parts)) + head + parts


@pytest.mark.parametrize("piece", [1, 7, 10_000])
def test_messages_come_as_they_were_sent(piece: int) -> None:
    """Whole, byte by byte, and with what follows behind them."""
    data = b"".join(frame(*message) for message in MESSAGES)
    frames = Frames(1000)
    pieces = [data[at : at + piece] for at in range(0, len(data), piece)]
    heard = [message for one in pieces for message in frames.receive(one)]
    assert [(message.head, list(message.parts)) for message in heard] == [
        (message.head, list(message.parts)) for message in MESSAGES
    ]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff" * 8, "too large"),
        (struct.pack(">II", 1, 1001), "too large"),
        (raw(b"no json"), "no JSON"),
        (raw(b"\xff\xff"), "no JSON"),
        (raw(b"[]"), "no object"),
        (raw(json.dumps({"parts": 5}).encode(), b"12345"), "its parts"),
        (raw(json.dumps({"parts": [6]}).encode(), b"12345"), "its parts"),
        (raw(json.dumps({"parts": [6, -1]}).encode(), b"12345"), "its parts"),
        (raw(json.dumps({"parts": [True, 4]}).encode(), b"12345"), "its parts"),
        (raw(b"{}", b"12345"), "its parts"),
    ],
)
def test_what_is_no_frame_is_refused(data: bytes, said: str) -> None:
    """Its size before its first byte, and whatever else does not fit together."""
    with pytest.raises(FramingError, match=said):
        list(Frames(1000).receive(data))


def test_what_is_no_json_is_not_sent() -> None:
    """A number that JSON has not, an object of Python's."""
    for told in ({"a": float("nan")}, {"a": object()}):
        with pytest.raises((TypeError, ValueError)):
            frame(told)
