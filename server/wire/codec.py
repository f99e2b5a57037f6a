"""From the wire's messages to the server's commands. Pure: no state, no I/O.

The other way are `answers` (what handlers reply) and `telling` (what jobs say). Every table of the three is total over its side
of proto/atelier.proto; a test holds that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from proto import atelier_pb2 as pb
from server import commands
from server.errors import Code, Refusal
from server.live.events import Frame
from server.webhook import ALL_EVENTS, HookEvent, HookKind, Webhook
from watermark import ImageMark, Position, Signature, SignatureError, Size, TextMark

DEFAULT_OPACITY = 0.7  # as the signature's own default; spelled out since proto3 cannot

_POSITIONS: dict[int, Position] = {
    pb.Signature.POSITION_UNSPECIFIED: Position.BOTTOM_RIGHT,
    pb.Signature.TOP_LEFT: Position.TOP_LEFT,
    pb.Signature.TOP_CENTER: Position.TOP_CENTER,
    pb.Signature.TOP_RIGHT: Position.TOP_RIGHT,
    pb.Signature.BOTTOM_LEFT: Position.BOTTOM_LEFT,
    pb.Signature.BOTTOM_CENTER: Position.BOTTOM_CENTER,
    pb.Signature.BOTTOM_RIGHT: Position.BOTTOM_RIGHT,
}
_SIZES: dict[int, Size] = {
    pb.Signature.SIZE_UNSPECIFIED: Size.MEDIUM,
    pb.Signature.SMALL: Size.SMALL,
    pb.Signature.MEDIUM: Size.MEDIUM,
    pb.Signature.LARGE: Size.LARGE,
}

_HOOK_EVENTS: dict[int, HookEvent] = {
    pb.Webhook.START: HookEvent.START,
    pb.Webhook.PROGRESS: HookEvent.PROGRESS,
    pb.Webhook.COMPLETED: HookEvent.COMPLETED,
}


def _given(message: Any, field: str) -> Any:
    """An optional field's value, None where the sender left it out."""
    return getattr(message, field) if message.HasField(field) else None


def _submit(message: pb.Submit, owner: str) -> commands.Submit:
    commands.check_adapter_count(len(message.adapters))  # before half a million of them are made into objects
    return commands.Submit(
        owner=owner,
        prompt=message.prompt,
        model=message.model,
        negative_prompt=message.negative_prompt,
        width=_given(message, "width"),
        height=_given(message, "height"),
        num_inference_steps=_given(message, "num_inference_steps"),
        guidance_scale=_given(message, "guidance_scale"),
        seed=_given(message, "seed"),
        num_images=message.num_images if message.HasField("num_images") else 1,
        adapters=tuple(
            commands.AdapterUse(use.name, use.scale if use.HasField("scale") else 1.0) for use in message.adapters
        ),
        solver=message.solver,
        priority=message.priority,
        deadline_seconds=_given(message, "deadline_seconds"),
        signature=_signature(message.signature) if message.HasField("signature") else None,
        preview_every_steps=message.preview_every_steps,
        init_image=message.init_image,
        strength=_given(message, "strength"),
        use_refiner=_given(message, "use_refiner"),
        refiner_strength=_given(message, "refiner_strength"),
        webhook=_webhook(message.webhook) if message.HasField("webhook") else None,
        idempotency_key=message.idempotency_key,
    )


def _predict(message: pb.Predict, owner: str) -> commands.Predict:
    return commands.Predict(
        owner=owner,
        model=message.model,
        input=_object("input", message.input),
        signature=_signature(message.signature) if message.HasField("signature") else None,
        priority=message.priority,
        deadline_seconds=_given(message, "deadline_seconds"),
        webhook=_webhook(message.webhook) if message.HasField("webhook") else None,
        idempotency_key=message.idempotency_key,
    )


def _object(field: str, text: str) -> dict[str, Any]:
    """A JSON object; "" is an empty one."""
    try:
        found = from_json(text, allow_inf_nan=False) if text else {}
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refusal.invalid(field, "a JSON object", text)
    return found


def _webhook(message: pb.Webhook) -> Webhook:
    events = set(message.events)
    if not events <= _HOOK_EVENTS.keys():
        limit = ", ".join(f"{event.name} ({number})" for number, event in _HOOK_EVENTS.items())
        raise Refusal.invalid("webhook.events", f"of {limit}", sorted(events - _HOOK_EVENTS.keys())[:3])
    chosen = frozenset(_HOOK_EVENTS[event] for event in events)
    return Webhook(kind=HookKind.GENERIC, url=message.url, events=chosen or ALL_EVENTS)


def _signature(message: pb.Signature) -> Signature:
    kind = message.WhichOneof("mark")
    try:
        if kind is None:
            raise SignatureError(
                "mark", "a text or an image", "signature.mark must be a text or an image, it is neither"
            )
        return Signature(
            mark=TextMark(message.text) if kind == "text" else ImageMark(message.image),
            position=_chosen(_POSITIONS, message.position, "position"),
            size=_chosen(_SIZES, message.size, "size"),
            opacity=message.opacity if message.HasField("opacity") else DEFAULT_OPACITY,
            artist=message.artist,
        )
    except SignatureError as error:
        field = f"signature.{error.field}"
        raise Refusal(Code.INVALID_PARAMETER, f"{field}: {error.message}", field=field, limit=error.limit) from None


def _chosen(table: dict[int, Any], number: int, field: str) -> Any:
    if number not in table:
        limit = f"0 to {max(table)}"
        raise SignatureError(field, limit, f"must be {limit}, not {number}")
    return table[number]


def _open_live(message: pb.OpenLive, owner: str) -> commands.OpenLive:
    return commands.OpenLive(owner=owner, model=message.model, echo_input=message.echo_input, source=message.source)


def _live_frame(message: pb.LiveFrame, owner: str) -> commands.LiveFrame:
    frame = Frame(message.number, message.captured_us, message.values, message.image)
    return commands.LiveFrame(owner=owner, live_id=message.live_id, frame=frame)


DECODERS: dict[str, Callable[[Any, str], commands.Command]] = {
    "submit": _submit,
    "predict": _predict,
    "cancel": lambda message, owner: commands.Cancel(owner=owner, job_id=message.job_id),
    "watch": lambda message, owner: commands.Watch(owner=owner, job_id=message.job_id, from_event=message.from_event),
    "get_job": lambda message, owner: commands.GetJob(owner=owner, job_id=message.job_id),
    "list_models": lambda message, owner: commands.ListModels(owner),
    "get_server_status": lambda message, owner: commands.GetServerStatus(),
    "ping": lambda message, owner: commands.Ping(message.client_time_us),
    "open_live": _open_live,
    "live_frame": _live_frame,
    "close_live": lambda message, owner: commands.CloseLive(owner=owner, live_id=message.live_id),
    "watch_live": lambda message, owner: commands.WatchLive(owner=owner, live_id=message.live_id),
    "connect_udp": lambda message, owner: commands.ConnectUdp(owner=owner),
}
"""A request's message to its command. Raises Refusal."""
