"""The frames that docs/protocol.md shows. `python -m tests.wire.documented_frames` writes them as they stand there."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from google.protobuf import text_format

from proto import atelier_pb2 as pb
from server.wire.framing import encode_frame

DOCUMENTED = {
    "The client says Hello": pb.Envelope(request_id=1, hello=pb.Hello(protocol_version=1, token="a-token-for-ada")),
    "The server answers Welcome": pb.Envelope(
        request_id=1,
        welcome=pb.Welcome(
            protocol_version=1,
            server_version="0.1.0",
            session_id="s-1",
            owner="ada",
            limits=pb.Limits(max_frame_bytes=1_048_576, max_chunk_bytes=262_144),
        ),
    ),
    "The client asks for a picture": pb.Envelope(
        request_id=2,
        submit=pb.Submit(prompt="a lighthouse", seed=7, progress=True, inline_pictures=True),
    ),
    "The server has it": pb.Envelope(request_id=2, accepted=pb.Accepted(job_id="j-1", seed=7)),
}


def dump(frame: bytes) -> Iterator[str]:
    """`frame` as lines of offset, hex and text, as `hexdump -C` writes them."""
    for at in range(0, len(frame), 16):
        line = frame[at : at + 16]
        text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in line)
        yield f"{at:08x}  {line.hex(' '):<47}  |{text}|"


def documented(title: str, envelope: pb.Envelope) -> str:
    """One frame as Markdown: its bytes, and what they say in protobuf's text format."""
    lines = dump(encode_frame(envelope.SerializeToString(deterministic=True)))
    said = text_format.MessageToString(envelope).rstrip()
    return "\n".join([f"{title}:", "", "```hexdump", *lines, "```", "", "```textproto", said, "```", ""])


if __name__ == "__main__":
    sys.stdout.write("\n".join(documented(title, envelope) for title, envelope in DOCUMENTED.items()))
