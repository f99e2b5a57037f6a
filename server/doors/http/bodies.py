"""How much of a body is read: refused at once where Content-Length says too much, else when too much has come.

By when it must have come is the connection's business (server.doors.http.connections).
"""

from __future__ import annotations

from starlette.types import Message, Receive

from server.doors.http.errors import Refused
from server.errors import Code, Refusal


def too_large(limit: int) -> Refusal:
    """The refusal."""
    return Refusal(
        Code.FRAME_TOO_LARGE,
        f"the body has more than {limit} bytes, which is the limit",
        field="body",
        limit=f"{limit} bytes",
    )


def capped(receive: Receive, limit: int) -> Receive:
    """`receive`, which raises Refused when more than `limit` bytes have come."""
    taken = 0

    async def counted() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > limit:
                raise Refused(too_large(limit))
        return message

    return counted
