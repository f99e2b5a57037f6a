"""The message forms of the style-licensing backend, as its releases have published them.

    A1  {task_id, type, data{generation_id, style_id, prompt, negative_prompt?, parameters?{width, height, steps, cfg_scale,
        seed}}, callback_url?, created_at?}
    A2  {generation_id, style_id, lora_model_url, prompt_tags, artist_name, seed, webhook_url}
    A3  {task_id, type, data{generation_id, style_id, lora_path, prompt, aspect_ratio, seed, signature_path, signature_config{
        position, size, opacity}, prompt_tags, num_inference_steps?}, webhook_url}

What a form does not name is left out without a word: these messages carry more than we need. What it names has its type, or
the message is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from server.commands import AdapterUse, Submit
from server.doors.amqp.fields import Fields
from server.doors.amqp.order import Order, SignatureWish, signature_refusal
from server.errors import Refusal
from server.webhook import HookKind, Webhook
from watermark import Position, Signature, SignatureError, Size, TextMark

TYPE = "image_generation"
MAX_ID = 2**63 - 1  # of a generation or a style

# The backend's defaults, whatever the model's card says
SIZE = 512
STEPS = 50
GUIDANCE = 7.5
SEED = 42  # of A1 and A2; A3 without a seed leaves it to chance
OPACITY = 0.7
BYTE_OPACITY = 128  # of A2, where it is a whole number up to 255

ASPECT_RATIOS: Mapping[str, tuple[int, int]] = {
    "1:1": (512, 512),
    "2:2": (1024, 1024),
    "1:2": (512, 1024),
    "2:1": (1024, 512),
}

_OURS = {  # fields of Submit that no message of these can say
    "owner": "", "model": "", "solver": "", "priority": "", "deadline_seconds": "", "preview_every_steps": "",
    "init_image": "", "strength": "", "use_refiner": "", "refiner_strength": "", "object_key": "",
}  # fmt: skip
_SIGNED = {
    "signature.position": "signature_config.position",
    "signature.size": "signature_config.size",
    "signature.opacity": "signature_config.opacity",
}

A1_NAMES: Mapping[str, str] = {
    **_OURS,
    "idempotency_key": "task_id",
    "prompt": "data.prompt",
    "negative_prompt": "data.negative_prompt",
    "width": "data.parameters.width",
    "height": "data.parameters.height",
    "num_inference_steps": "data.parameters.steps",
    "guidance_scale": "data.parameters.cfg_scale",
    "seed": "data.parameters.seed",
    "num_images": "data.parameters.num_images",
    "adapters": "data.style_id",
    "signature": "data.artist_name",
    "webhook": "callback_url",
}
A2_NAMES: Mapping[str, str] = {
    **_OURS,
    **_SIGNED,
    "idempotency_key": "generation_id",
    "prompt": "prompt_tags",
    "negative_prompt": "negative_prompt",
    "width": "aspect_ratio",
    "height": "aspect_ratio",
    "num_inference_steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "seed": "seed",
    "num_images": "num_images",
    "adapters": "lora_model_url",
    "signature": "artist_name",
    "webhook": "webhook_url",
}
A3_NAMES: Mapping[str, str] = {
    **_OURS,
    **{name: f"data.{theirs}" for name, theirs in _SIGNED.items()},
    "idempotency_key": "task_id",
    "prompt": "data.prompt",
    "negative_prompt": "data.negative_prompt",
    "width": "data.aspect_ratio",
    "height": "data.aspect_ratio",
    "num_inference_steps": "data.num_inference_steps",
    "guidance_scale": "data.guidance_scale",
    "seed": "data.seed",
    "num_images": "data.num_images",
    "adapters": "data.lora_path",
    "signature": "data.signature_path",
    "webhook": "webhook_url",
}


def read_a1(message: Fields, owner: str) -> Order:
    """The documented form. Raises Refusal."""
    data = message.fields("data")
    given = data.fields("parameters", {})
    generation = generation_id(data)
    return Order(
        submit=Submit(
            owner=owner,
            prompt=data.text("prompt"),
            negative_prompt=data.text("negative_prompt", ""),
            width=given.whole("width", SIZE),
            height=given.whole("height", SIZE),
            num_inference_steps=given.whole("steps", STEPS),
            guidance_scale=given.number("cfg_scale", GUIDANCE),
            seed=given.whole("seed", SEED),
            num_images=given.whole("num_images", 1),
            adapters=_adapters(data, ""),
            signature=_text_signature(data, OPACITY),
            idempotency_key=_key(message, generation),
            webhook=_webhook(message, "callback_url", generation, data),
            object_key=object_key(generation),
        ),
        names=A1_NAMES,
    )


def read_a2(message: Fields, owner: str) -> Order:
    """The flat form. Raises Refusal."""
    generation = generation_id(message)
    tags = message.texts("prompt_tags")
    width, height = _size(message)
    return Order(
        submit=Submit(
            owner=owner,
            prompt=message.text("prompt", "") or ", ".join(tags),
            negative_prompt=message.text("negative_prompt", ""),
            width=width,
            height=height,
            num_inference_steps=message.whole("num_inference_steps", STEPS),
            guidance_scale=message.number("guidance_scale", GUIDANCE),
            seed=message.whole("seed", SEED),
            num_images=message.whole("num_images", 1),
            adapters=_adapters(message, "lora_model_url"),
            signature=_text_signature(message, _opacity(message.fields("signature_config", {}))),
            idempotency_key=_key(message, generation),
            webhook=_webhook(message, "webhook_url", generation, message),
            object_key=object_key(generation),
        ),
        names=A2_NAMES,
    )


def read_a3(message: Fields, owner: str) -> Order:
    """The form as published today. Raises Refusal."""
    data = message.fields("data")
    generation = generation_id(data)
    width, height = _size(data)
    opacity = data.fields("signature_config", {}).number("opacity", OPACITY)
    picture = data.text("signature_path", "")
    return Order(
        submit=Submit(
            owner=owner,
            prompt=data.text("prompt"),
            negative_prompt=data.text("negative_prompt", ""),
            width=width,
            height=height,
            num_inference_steps=data.whole("num_inference_steps", STEPS),
            guidance_scale=data.number("guidance_scale", GUIDANCE),
            seed=data.whole("seed", None),
            num_images=data.whole("num_images", 1),
            adapters=_adapters(data, "lora_path"),
            signature=None if picture else _text_signature(data, opacity),
            idempotency_key=_key(message, generation),
            webhook=_webhook(message, "webhook_url", generation, data),
            object_key=object_key(generation),
        ),
        signature=_wish(picture, data, opacity) if picture else None,
        names=A3_NAMES,
    )


def is_a3(message: Fields) -> bool:
    """Whether an enveloped message is of today's form: it says what A1 has no word for."""
    data = message.fields("data")
    return data.has("lora_path", "aspect_ratio", "signature_path", "signature_config", "prompt_tags") or (
        not data.has("parameters") and message.has("webhook_url")
    )


def generation_id(data: Fields) -> int:
    """The backend's own number of what it asks for."""
    value: int = data.whole("generation_id")
    if not 0 <= value <= MAX_ID:
        raise data.refused("generation_id", f"0 to {MAX_ID}")
    return value


def object_key(generation: int) -> str:
    """Where the backend looks for the picture."""
    return f"generations/gen-{generation}.png"


def key_of(generation: int) -> str:
    """The idempotency key of a generation without a task_id."""
    return f"generation-{generation}"


def _key(message: Fields, generation: int) -> str:
    return message.text("task_id", "") or key_of(generation)


def _webhook(message: Fields, name: str, generation: int, data: Fields) -> Webhook:
    return Webhook(
        kind=HookKind.BACKEND,
        url=_url(message, name),
        generation_id=generation,
        prompt_tags=data.texts("prompt_tags"),
    )


def _url(message: Fields, name: str) -> str:
    url = message.text(name, "")
    if url and (not url.lower().startswith(("http://", "https://")) or len(url) > 2000 or any(c <= " " for c in url)):
        raise message.refused(name, "an http or https URL of at most 2000 characters")
    return url


def _adapters(data: Fields, name: str) -> tuple[AdapterUse, ...]:
    """The style's LoRA: where the message says, else where the storage has it for the style."""
    place = data.text(name, "") if name else ""
    if place:
        return (AdapterUse(place if "://" in place else f"storage:{place}"),)
    style: int = data.whole("style_id")
    if not 0 <= style <= MAX_ID:
        raise data.refused("style_id", f"0 to {MAX_ID}")
    return (AdapterUse(f"storage:style:{style}"),)


def _size(data: Fields) -> tuple[int, int]:
    ratio = data.text("aspect_ratio", "")
    if ratio and ratio not in ASPECT_RATIOS:
        raise data.refused("aspect_ratio", f"one of {', '.join(ASPECT_RATIOS)}")
    return ASPECT_RATIOS.get(ratio, (SIZE, SIZE))


def _opacity(config: Fields) -> float:
    """A share, or in this form also a whole number of 255ths."""
    if config.is_whole("opacity") or not config.has("opacity"):
        value: int = config.whole("opacity", BYTE_OPACITY)
        if not 0 <= value <= 255:
            raise config.refused("opacity", "0.0 to 1.0, or a whole number from 0 to 255")
        return value / 255
    share: float = config.number("opacity")
    return share


def _text_signature(data: Fields, opacity: float) -> Signature | None:
    """The artist's name; none where it is left out. What the config says is looked at in any case."""
    position, size = _placed(data.fields("signature_config", {}))
    name = data.text("artist_name", "")
    if not name.strip():
        return None
    try:
        return Signature(TextMark(name), position=position, size=size, opacity=opacity, artist=name)
    except SignatureError as error:
        raise signature_refusal(error) from None


def _wish(key: str, data: Fields, opacity: float) -> SignatureWish:
    position, size = _placed(data.fields("signature_config", {}))
    if not 0 <= opacity <= 1:
        raise data.fields("signature_config").refused("opacity", "0 to 1")
    return SignatureWish(key=key, position=position, size=size, opacity=opacity, artist=data.text("artist_name", ""))


def _placed(config: Fields) -> tuple[Position, Size]:
    try:
        position = Position.named(config.text("position", Position.BOTTOM_RIGHT))
        return position, Size.named(config.text("size", Size.MEDIUM))
    except SignatureError as error:
        raise Refusal.invalid(config.path(error.field), error.limit, config.text(error.field)) from None
