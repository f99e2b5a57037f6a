"""Where a broker is, and the queue from which a server takes its jobs, as one URL."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

from pydantic import SecretStr

from bot.errors import CannotConnectError
from server.doors.amqp.connection import BrokerAddress

ADDRESS_FORM = "amqp://user:password@host:5672/vhost?queue=image_generation"


def parsed(address: str) -> tuple[str, BrokerAddress]:
    """The queue, and the broker. Raises CannotConnectError."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise CannotConnectError(repr(address), f"that is no address such as {ADDRESS_FORM} ({error})") from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname:
        raise CannotConnectError(repr(address), f"that is no address such as {ADDRESS_FORM}")
    tls = parts.scheme == "amqps"
    queue = parse_qs(parts.query).get("queue", ["image_generation"])[0]
    return queue, BrokerAddress(
        hosts=[(parts.hostname, port or (5671 if tls else 5672))],
        user=unquote(parts.username or "guest"),
        password=SecretStr(unquote(parts.password or "guest")),
        vhost=unquote(parts.path[1:]) or "/",
        tls=tls,
    )
