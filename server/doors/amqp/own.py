"""Atelier's own messages: a Submit as JSON, or as the protobuf message that the TCP door speaks; a Predict as JSON.

    {"type": "atelier.submit", "idempotency_key": "order-17", "prompt": "a red fox", "width": 512, …}
    {"type": "atelier.predict", "idempotency_key": "poem-3", "model": "text-demo", "input": {"prompt": "a big"}}

Every field but `type`, `idempotency_key` and `prompt` may be left out; the names are those of Submit in proto/atelier.proto.
Beside those: `webhook` {url, events?} tells the job's course to an address. A delivery may come twice, so that a key is asked
for: in the body, or as the message_id.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import replace

from google.protobuf.message import DecodeError

from proto import atelier_pb2 as pb
from server.commands import MAX_ADAPTERS, AdapterUse, Predict, Submit
from server.doors.amqp.fields import Fields
from server.doors.amqp.order import Order, SignatureWish, signature_refusal
from server.errors import Code, Refusal
from server.webhook import ALL_EVENTS, HookEvent, HookKind, Webhook
from server.wire.codec import DECODERS
from watermark import ImageMark, Position, Signature, SignatureError, Size, TextMark
from watermark.signature import DEFAULT_OPACITY

TYPE = "atelier.submit"
PREDICT = "atelier.predict"
PROTOBUF = frozenset({"application/x-protobuf", "application/protobuf"})
MAX_URL = 2000  # characters

FIELDS = frozenset(
    {
        "type", "idempotency_key", "prompt", "model", "negative_prompt", "width", "height", "num_inference_steps",
        "guidance_scale", "seed", "num_images", "adapters", "solver", "priority", "deadline_seconds", "signature",
        "init_image", "strength", "use_refiner", "refiner_strength", "webhook",
    }
)  # fmt: skip
PREDICT_FIELDS = frozenset(
    {"type", "idempotency_key", "model", "input", "signature", "priority", "deadline_seconds", "webhook"}
)
NAMES: Mapping[str, str] = {
    **{name: name for name in FIELDS - {"type"}},
    **dict.fromkeys(("owner", "preview_every_steps", "object_key"), ""),
}


def read_json(message: Fields, owner: str, message_id: str) -> Order:
    """The JSON form. Raises Refusal."""
    message.only(FIELDS)
    signature = _signature(message.fields("signature")) if message.has("signature") else None
    submit = Submit(
        owner=owner,
        prompt=message.text("prompt"),
        model=message.text("model", ""),
        negative_prompt=message.text("negative_prompt", ""),
        width=message.whole("width", None),
        height=message.whole("height", None),
        num_inference_steps=message.whole("num_inference_steps", None),
        guidance_scale=message.number("guidance_scale", None),
        seed=message.whole("seed", None),
        num_images=message.whole("num_images", 1),
        adapters=tuple(_adapter(entry) for entry in message.objects("adapters", MAX_ADAPTERS)),
        solver=message.text("solver", ""),
        priority=message.whole("priority", 0),
        deadline_seconds=message.number("deadline_seconds", None),
        signature=signature if isinstance(signature, Signature) else None,
        init_image=_bytes(message, "init_image"),
        strength=message.number("strength", None),
        use_refiner=message.truth("use_refiner"),
        refiner_strength=message.number("refiner_strength", None),
        idempotency_key=keyed(message.text("idempotency_key", ""), message_id),
        webhook=_webhook(message.fields("webhook")) if message.has("webhook") else None,
    )
    return Order(submit=submit, signature=signature if isinstance(signature, SignatureWish) else None, names=NAMES)


def read_predict(message: Fields, owner: str, message_id: str) -> Order:
    """The JSON form of a Predict. Raises Refusal."""
    message.only(PREDICT_FIELDS)
    signature = _signature(message.fields("signature")) if message.has("signature") else None
    predict = Predict(
        owner=owner,
        model=message.text("model"),
        input=message.plain("input"),
        signature=signature if isinstance(signature, Signature) else None,
        priority=message.whole("priority", 0),
        deadline_seconds=message.number("deadline_seconds", None),
        idempotency_key=keyed(message.text("idempotency_key", ""), message_id),
        webhook=_webhook(message.fields("webhook")) if message.has("webhook") else None,
    )
    return Order(submit=predict, signature=signature if isinstance(signature, SignatureWish) else None)


def read_protobuf(body: bytes, owner: str, message_id: str) -> Order:
    """A Submit of proto/atelier.proto; how the caller wants to be told means nothing here. Raises Refusal."""
    try:
        message = pb.Submit.FromString(body)
    except DecodeError:
        raise Refusal(Code.MALFORMED_MESSAGE, "the body is no Submit of proto/atelier.proto") from None
    submit = DECODERS["submit"](message, owner)
    assert isinstance(submit, Submit)
    key = keyed(submit.idempotency_key, message_id)
    return Order(submit=replace(submit, idempotency_key=key, preview_every_steps=0), names=NAMES)


def keyed(key: str, message_id: str) -> str:
    """The idempotency key; a message without one would be painted twice when it is delivered twice."""
    if not (key or message_id):
        raise Refusal.invalid("idempotency_key", "given, here or as the message_id", key)
    return key or message_id


def _adapter(entry: Fields) -> AdapterUse:
    entry.only({"name", "scale"})
    return AdapterUse(entry.text("name"), entry.number("scale", 1.0))


def _signature(given: Fields) -> Signature | SignatureWish:
    given.only({"text", "image", "image_key", "position", "size", "opacity", "artist"})
    if sum(given.has(name) for name in ("text", "image", "image_key")) != 1:
        raise Refusal.invalid("signature", "one of text, image and image_key", None)
    opacity, artist = given.number("opacity", DEFAULT_OPACITY), given.text("artist", "")
    try:
        position = Position.named(given.text("position", Position.BOTTOM_RIGHT))
        size = Size.named(given.text("size", Size.MEDIUM))
        if given.has("image_key"):
            key = given.text("image_key")
            Signature(TextMark("checks opacity and artist"), opacity=opacity, artist=artist)
            return SignatureWish(key=key, position=position, size=size, opacity=opacity, artist=artist)
        mark = TextMark(given.text("text")) if given.has("text") else ImageMark(_bytes(given, "image"))
        return Signature(mark, position=position, size=size, opacity=opacity, artist=artist)
    except SignatureError as error:
        raise signature_refusal(error) from None


def _webhook(given: Fields) -> Webhook:
    given.only({"url", "events"})
    url = given.text("url")
    if not url.lower().startswith(("http://", "https://")) or len(url) > MAX_URL or any(mark <= " " for mark in url):
        raise given.refused("url", f"an http or https URL of at most {MAX_URL} characters")
    names = given.texts("events")
    known = {event.value for event in HookEvent}
    if not known.issuperset(names):
        raise given.refused("events", f"a list of {', '.join(sorted(known))}")
    return Webhook(kind=HookKind.GENERIC, url=url, events=frozenset(map(HookEvent, names)) or ALL_EVENTS)


def _bytes(given: Fields, name: str) -> bytes:
    try:
        return base64.b64decode(given.text(name, ""), validate=True)
    except (binascii.Error, ValueError):
        raise Refusal.invalid(given.path(name), "base64", "something else") from None
