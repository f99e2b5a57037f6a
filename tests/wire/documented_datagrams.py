"""The datagrams that docs/udp.md shows. `python -m tests.wire.documented_datagrams` writes them as they stand there."""

from __future__ import annotations

import sys

from google.protobuf import text_format
from google.protobuf.message import Message

from proto import atelier_udp_pb2 as udp
from server.wire.datagrams import Direction, seal, to_all
from tests.wire.documented_frames import dump

KEY = bytes(range(32))
LIVE_ID = "4f9a0c1d2b3e4f5a"
KEY_ID = 0x0123456789ABCDEF


def from_client(message: udp.ClientDatagram) -> tuple[bytes, Message]:
    """Signed with the key that the page names."""
    return seal(message, Direction.CLIENT, KEY_ID, KEY), message


def from_server(message: udp.ServerDatagram) -> tuple[bytes, Message]:
    """Signed, too."""
    return seal(message, Direction.SERVER, KEY_ID, KEY), message


def for_all(message: udp.ServerDatagram) -> tuple[bytes, Message]:
    """As all subscribers get it."""
    return to_all(message), message


SUBSCRIBE = udp.Subscribe(live_id=LIVE_ID)
DOCUMENTED: dict[str, tuple[bytes, Message]] = {
    "The client subscribes": from_client(udp.ClientDatagram(sequence=1, subscribe=SUBSCRIBE)),
    "The server wants to know whether it hears": from_server(
        udp.ServerDatagram(answers=1, challenge=udp.Challenge(cookie=0x1122334455667788))
    ),
    "The client shows that it does": from_client(
        udp.ClientDatagram(sequence=2, cookie=0x1122334455667788, subscribe=SUBSCRIBE)
    ),
    "It is subscribed": from_server(
        udp.ServerDatagram(answers=2, subscribed=udp.Subscribed(live_id=LIVE_ID, next_sequence=41, subscriptions=1))
    ),
    "A result, for all": for_all(
        udp.ServerDatagram(
            live_result=udp.LiveResult(
                live_id=LIVE_ID,
                sequence=41,
                number=900,
                tick_us=1_790_000_000_000_000,
                total=3,
                values=[0.5, 0.25, -1.0],
            )
        )
    ),
}


def documented(title: str) -> str:
    """One datagram as Markdown: its bytes, and what they say in protobuf's text format."""
    datagram, message = DOCUMENTED[title]
    said = text_format.MessageToString(message).rstrip()
    return "\n".join([f"{title}:", "", "```hexdump", *dump(datagram), "```", "", "```textproto", said, "```", ""])


if __name__ == "__main__":
    sys.stdout.write("\n".join(documented(title) for title in DOCUMENTED))
