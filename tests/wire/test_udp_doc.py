"""docs/udp.md is held to what the code does: its datagrams, its sizes, its reasons, its settings."""

from __future__ import annotations

import hmac
import re
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format

from config.settings import Settings
from proto import atelier_udp_pb2 as udp
from server.doors.udp.parts import MISSED
from server.doors.udp.sending import BURST
from server.doors.udp.topics import END_AGAIN
from server.wire.datagrams import HEADER, LARGEST
from server.wire.replay import WINDOW
from server.wire.udp_telling import VALUES
from tests.server.doors.udp.test_fuzz import REASONS
from tests.wire.documented_datagrams import DOCUMENTED, KEY, KEY_ID, documented

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "udp.md").read_text(encoding="utf-8")
PROTO = (ROOT / "proto" / "atelier_udp.proto").read_text(encoding="utf-8")
SHOWN = re.findall(r"```hexdump\n(.*?)```\n\n```textproto\n(.*?)```", DOC, re.DOTALL)


@pytest.mark.parametrize("title", DOCUMENTED)
def test_the_page_shows_the_datagrams_as_they_are_made(title: str) -> None:
    """Each stands there exactly as the code makes it."""
    assert documented(title) in DOC


@pytest.mark.parametrize(("dumped", "said"), SHOWN)
def test_the_bytes_mean_what_the_page_says(dumped: str, said: str) -> None:
    """Taken apart by hand: key id, tag and message, which is the text beside it."""
    datagram = b"".join(bytes.fromhex(line[10:57]) for line in dumped.splitlines())
    head, tag, body = datagram[:8], datagram[8:24], datagram[24:]
    kinds: dict[bytes, Any] = {b"C": udp.ClientDatagram, b"S": udp.ServerDatagram}
    tags = {hmac.new(KEY, one + head + body, "sha256").digest()[:16]: kind for one, kind in kinds.items()}
    kind = {**tags, bytes(16): udp.ServerDatagram}[tag]
    assert int.from_bytes(head, "big") == (KEY_ID if any(tag) else 0)
    assert kind.FromString(body) == text_format.Parse(said, kind())


def test_every_datagram_in_the_page_is_checked() -> None:
    """No dump is without its text, and none is forgotten; the key that signs them is named."""
    assert len(SHOWN) == DOC.count("```hexdump") == len(DOCUMENTED)
    assert f"0x{KEY_ID:016x}" in DOC
    assert f"{KEY[:4].hex(' ')} … {KEY[-1:].hex()}" in DOC


def test_the_page_speaks_of_every_message() -> None:
    """In both directions."""
    for kind in (udp.ClientDatagram, udp.ServerDatagram):
        fields = kind.DESCRIPTOR.oneofs_by_name["message"].fields
        names = [field.message_type.name for field in fields if field.message_type is not None]
        assert len(names) == len(fields)
        assert [name for name in names if not re.search(rf"\b{name}\b", DOC)] == []


def test_the_page_names_every_reason_for_which_a_datagram_is_dropped() -> None:
    """As the metrics do."""
    rows = re.findall(r"^\| `([a-z_]+)` \|", DOC, re.MULTILINE)
    assert set(rows) == REASONS | {"broken"}


def test_the_page_s_numbers_are_the_code_s() -> None:
    """Sizes, windows and times."""
    default = {name: field.default for name, field in Settings.model_fields.items()}
    told = [
        f"{LARGEST:,} bytes",
        f"bytes {HEADER} to end",
        f"{WINDOW:,} numbers",
        f"{VALUES} values",
        f"{BURST} datagrams",
        f"every {default['udp_heartbeat']:g} seconds",
        f"{MISSED * default['udp_heartbeat']:g} seconds",
        f"{default['udp_key_seconds'] / 60:g} minutes",
        f"{len(END_AGAIN) + 1} times",
        f"port {9001}",
    ]
    assert [text for text in told if text not in DOC] == []
    assert f"older than the last {WINDOW}" in PROTO
