"""What a message's bytes and properties ask for, whichever of the forms they have. Pure; raises FormRefusal and nothing else."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from server.commands import MAX_IDEMPOTENCY_KEY
from server.doors.amqp import licensing, own
from server.doors.amqp.broker import Properties
from server.doors.amqp.fields import Fields
from server.doors.amqp.order import Order, renamed
from server.errors import Code, Refusal

_PLAIN = frozenset({"", "identity", "utf-8", "utf8"})


class FormRefusal(Refusal):
    """A message that is no order. As far as it could be read: its key, the generation that waits for it, and where to tell it."""

    def __init__(
        self, refusal: Refusal, key: str = "", generation_id: int | None = None, webhook_url: str = ""
    ) -> None:
        super().__init__(refusal.code, refusal.message, field=refusal.field, limit=refusal.limit)
        self.key = key
        self.generation_id = generation_id
        self.webhook_url = webhook_url


def read_order(body: bytes, properties: Properties, *, owner: str, max_bytes: int) -> Order:
    """The order of a message. Raises FormRefusal."""
    try:
        _check_size(body, max_bytes)
        if properties.content_encoding.lower() not in _PLAIN:
            raise Refusal.invalid(
                "content_encoding", "left out: bodies are not compressed", properties.content_encoding
            )
        if properties.content_type.partition(";")[0].strip().lower() in own.PROTOBUF:
            return own.read_protobuf(body, owner, properties.message_id)
        message = _parsed(body)
    except Refusal as refusal:
        raise FormRefusal(refusal) from None
    return _read(message, properties, owner)


def _read(message: dict[str, Any], properties: Properties, owner: str) -> Order:
    fields = Fields(message)
    names = own.NAMES
    try:
        kind = fields.text("type", "") or (properties.type if not fields.has("data", "generation_id") else "")
        if kind == own.TYPE:
            return own.read_json(fields, owner, properties.message_id)
        if kind == own.PREDICT:
            return own.read_predict(fields, owner, properties.message_id)
        if kind and kind != licensing.TYPE:
            raise Refusal.invalid("type", f"{licensing.TYPE}, {own.TYPE} or {own.PREDICT}", kind)
        if kind or fields.has("data"):
            today = licensing.is_a3(fields)
            names = licensing.A3_NAMES if today else licensing.A1_NAMES
            return licensing.read_a3(fields, owner) if today else licensing.read_a1(fields, owner)
        if not fields.has("generation_id"):
            raise Refusal.invalid("type", f"{licensing.TYPE} or {own.TYPE}, or a generation_id given", None)
        names = licensing.A2_NAMES
        return licensing.read_a2(fields, owner)
    except Refusal as refusal:
        generation = _generation(message)
        key = _key(message, generation)
        raise FormRefusal(renamed(refusal, names), key, generation, _webhook_url(message)) from None


def _check_size(body: bytes, limit: int) -> None:
    if len(body) > limit:
        text = f"the message has {len(body)} bytes; at most {limit} are taken"
        raise Refusal(Code.FRAME_TOO_LARGE, text, field="body", limit=f"at most {limit} bytes")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        message = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(Code.MALFORMED_MESSAGE, f"the body is not JSON: {error}", field="body", limit="JSON") from None
    if not isinstance(message, dict):
        raise Refusal(Code.MALFORMED_MESSAGE, "the body is JSON, but no object", field="body", limit="a JSON object")
    return message


def _generation(message: dict[str, Any]) -> int | None:
    """Whatever else is wrong with it."""
    data = message.get("data")
    for place in (data if isinstance(data, dict) else {}, message):
        number = place.get("generation_id")
        if isinstance(number, int) and not isinstance(number, bool) and 0 <= number <= licensing.MAX_ID:
            return number
    return None


def _key(message: dict[str, Any], generation: int | None) -> str:
    key = message.get("task_id")
    if isinstance(key, str) and 0 < len(key) <= MAX_IDEMPOTENCY_KEY:
        return key
    return "" if generation is None else licensing.key_of(generation)


def _webhook_url(message: dict[str, Any]) -> str:
    for name in ("webhook_url", "callback_url"):
        url = message.get(name)
        if isinstance(url, str) and url.lower().startswith(("http://", "https://")) and len(url) <= own.MAX_URL:
            return url
    return ""
