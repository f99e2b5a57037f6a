"""Messages and their properties, from pika's types to those of `broker`, and back."""

from __future__ import annotations

from typing import Any

import pika

from server.doors.amqp.broker import Delivery, Properties

PUBLICATION = "x-atelier-publication"  # the header that numbers a channel's messages, to know a returned one by

_TEXTS = ("content_type", "content_encoding", "correlation_id", "reply_to", "message_id", "type", "app_id")


def delivery(message: Any) -> Delivery:
    """One that came."""
    method = message.method
    return Delivery(
        tag=method.delivery_tag,
        body=message.body,
        properties=properties_of(message.properties),
        exchange=_text(method.exchange),
        routing_key=_text(method.routing_key),
        redelivered=bool(method.redelivered),
    )


def properties_of(given: pika.BasicProperties) -> Properties:
    """What came with a message."""
    texts: dict[str, Any] = {name: _text(getattr(given, name)) for name in _TEXTS}
    return Properties(
        headers={_text(name): value for name, value in (given.headers or {}).items()},
        priority=given.priority,
        timestamp=given.timestamp,
        **texts,
    )


def described(properties: Properties, number: int) -> pika.BasicProperties:
    """What goes out with a body, persistent; `number` is its place on its channel, which a message has that may be returned."""
    headers = {**properties.headers, PUBLICATION: number} if properties.mandatory else dict(properties.headers)
    return pika.BasicProperties(
        delivery_mode=2,
        headers=headers or None,
        priority=properties.priority,
        timestamp=properties.timestamp,
        **{name: getattr(properties, name) or None for name in _TEXTS},
    )


def _text(value: Any) -> str:
    """pika leaves as bytes what is no UTF-8."""
    return value.decode("latin-1") if isinstance(value, bytes) else value or ""
