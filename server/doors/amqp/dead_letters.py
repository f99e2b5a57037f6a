"""Refused messages: kept as they came in a queue of their own, with the reason in headers."""

from __future__ import annotations

from dataclasses import replace

from server.doors.amqp.broker import Delivery, Properties, Publishes
from server.doors.amqp.delivery import Handle
from server.errors import Refusal

CODE = "x-atelier-code"
FIELD = "x-atelier-field"
REASON = "x-atelier-reason"
REFUSED_AT = "x-atelier-refused-at"  # seconds since 1970
QUEUE = "x-atelier-queue"  # where it was taken from
MAX_REASON = 1000  # characters; a header has to fit into a frame with all others

_OURS = frozenset({CODE, FIELD, REASON, REFUSED_AT, QUEUE})


def buried(delivery: Delivery, refusal: Refusal, *, queue: str, at: float) -> Properties:
    """The properties of a refused message."""
    reason = {
        CODE: refusal.code.name,
        FIELD: refusal.field,
        REASON: refusal.message[:MAX_REASON],
        REFUSED_AT: int(at),
        QUEUE: queue,
    }
    return replace(delivery.properties, headers={**delivery.properties.headers, **reason})


async def bury(handle: Handle, refusal: Refusal, publisher: Publishes, *, queue: str, dead: str, at: float) -> None:
    """Put a delivery from `queue` among the dead letters, and be done with it. Raises NotPublished."""
    properties = buried(handle.delivery, refusal, queue=queue, at=at)
    await publisher.publish("", dead, handle.delivery.body, properties)
    handle.ack()


def unburied(properties: Properties) -> Properties:
    """As it came in the first place."""
    return replace(properties, headers={name: value for name, value in properties.headers.items() if name not in _OURS})
