"""The handshake's words: whether a Hello is good, and the Welcome that answers it."""

from __future__ import annotations

from proto import atelier_pb2 as pb
from server import __version__
from server.errors import Code, Refusal
from server.wire.connection import PROTOCOL_VERSION

MAX_CLIENT_NAME = 100  # characters, in the log


def check_hello(hello: pb.Hello) -> None:
    """Whether it can be answered at all; its token is another matter. Raises Refusal."""
    if hello.protocol_version != PROTOCOL_VERSION:
        raise Refusal(
            Code.UNSUPPORTED_VERSION,
            f"protocol_version {hello.protocol_version} is not spoken here, {PROTOCOL_VERSION} is",
            field="protocol_version",
            limit=str(PROTOCOL_VERSION),
        )
    if len(hello.client_name) > MAX_CLIENT_NAME:
        raise Refusal.invalid("client_name", f"at most {MAX_CLIENT_NAME} characters", hello.client_name)
    if hello.exclusive and not hello.client_name:
        raise Refusal.invalid("client_name", "given with exclusive, which is about it", hello.client_name)


def welcome(request_id: int, session_id: str, owner: str, limits: pb.Limits) -> pb.Envelope:
    """The answer to a good one."""
    return pb.Envelope(
        request_id=request_id,
        welcome=pb.Welcome(
            protocol_version=PROTOCOL_VERSION,
            server_version=__version__,
            session_id=session_id,
            owner=owner,
            limits=limits,
        ),
    )
