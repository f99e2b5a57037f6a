from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import text_format

from config.settings import Settings
from proto import atelier_pb2 as pb
from server.errors import Code
from server.wire.framing import FrameReader
from tests.wire.documented_frames import DOCUMENTED, documented
from tests.wire.fake_server import PICTURE, TOKEN, FakeServer

ROOT = Path(__file__).parents[2]
DOC = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SHOWN = re.findall(r"```hexdump\n(.*?)```\n\n```textproto\n(.*?)```", DOC, re.DOTALL)


@pytest.mark.parametrize("title", DOCUMENTED)
def test_doc_shows_the_frames_as_they_are_generated(title: str) -> None:
    """Each example frame stands in the page exactly as the code makes it."""
    assert documented(title, DOCUMENTED[title]) in DOC


@pytest.mark.parametrize(("dumped", "said"), SHOWN)
def test_documented_bytes_mean_what_the_page_says(dumped: str, said: str) -> None:
    """The bytes in the page are one whole frame, which decodes to the text beside it."""
    reader = FrameReader(4096)
    reader.feed(b"".join(bytes.fromhex(line[10:57]) for line in dumped.splitlines()))
    body = reader.next_frame()
    assert body is not None
    assert not reader.begun
    assert pb.Envelope.FromString(body) == text_format.Parse(said, pb.Envelope())


def test_every_frame_in_the_page_is_checked() -> None:
    """No dump in the page is without its text, and none is forgotten."""
    assert len(SHOWN) == DOC.count("```hexdump") == len(DOCUMENTED)


def test_table_names_every_code() -> None:
    """The table of error codes is the enum, number by number, in both the proto file and the server."""
    rows = re.findall(r"^\| (\d+) \| ([A-Z_]+) \|", DOC, re.MULTILINE)
    assert [(int(number), name) for number, name in rows] == [(code.value, code.name) for code in Code]
    assert dict(pb.ErrorCode.items()) == {name: int(number) for number, name in rows}


def test_answers_name_every_message() -> None:
    """Every message of the protocol is spoken of in the page."""
    members = pb.Envelope.DESCRIPTOR.oneofs_by_name["message"].fields
    names = [field.message_type.name for field in members if field.message_type is not None]
    assert len(names) == len(members)
    assert [name for name in names if not re.search(rf"\b{name}\b", DOC)] == []


def test_documented_limits_are_the_defaults() -> None:
    """The sizes and deadlines in the page are the settings' defaults."""
    default = {name: field.default for name, field in Settings.model_fields.items()}
    told = {
        "handshake_frame_bytes": "4 KiB",
        "max_frame_bytes": "1 MiB",
        "chunk_bytes": "256 KiB",
        "handshake_timeout": "10 s",
        "frame_timeout": "30 s",
        "idle_timeout": "300 s",
        "slow_reader_timeout": "60 s",
        "max_requests_per_connection": "1,000 jobs",
    }
    shown = {
        name: f"{value:g} s"
        if isinstance(value, float)
        else f"{value:,} jobs"
        if value < 1024
        else f"{value >> 10} KiB"
        if value < 1 << 20
        else f"{value >> 20} MiB"
        for name, value in default.items()
        if name in told
    }
    assert shown == told
    for name, text in told.items():
        assert text in DOC, name


def test_session_in_the_page_runs(tmp_path: Path) -> None:
    """The Python session in the page, run as it stands, gets its picture from a server."""
    (source,) = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    script = tmp_path / "session.py"
    script.write_text(source, encoding="utf-8")
    with FakeServer() as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", str(script), "127.0.0.1", str(server.port), TOKEN],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "welcome, ada",
        "job job-1",
        "25 %",
        "50 %",
        "75 %",
        "100 %",
        f"lighthouse.png, {len(PICTURE)} bytes",
    ]
    written = (tmp_path / "lighthouse.png").read_bytes()
    assert hashlib.sha256(written).digest() == hashlib.sha256(PICTURE).digest()
